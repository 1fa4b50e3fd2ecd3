/// The lengths of reads, which the input chooses and which recur until all bytes are read.
#[derive(Debug)]
pub(super) struct Cuts {
    lengths: Vec<usize>,
    turn: usize,
}

impl Cuts {
    /// Takes the lengths from the front of the input: their number, at most 7, and a byte for each.
    /// If there is none, every read has one byte.
    pub(super) fn take(input: &mut &[u8]) -> Self {
        let count = usize::from(byte(input) % 8).min(input.len());
        let (lengths, rest) = input.split_at(count);
        *input = rest;
        let mut lengths: Vec<usize> = lengths
            .iter()
            .map(|&length| 1 + usize::from(length))
            .collect();
        if lengths.is_empty() {
            lengths.push(1);
        }
        Self { lengths, turn: 0 }
    }

    /// Returns the length of the next read, of which there are at most `most` bytes.
    pub(super) fn next(&mut self, most: usize) -> usize {
        let length = self.lengths[self.turn % self.lengths.len()];
        self.turn += 1;
        length.min(most)
    }

    /// Returns the pieces of `bytes`.
    pub(super) fn pieces<'a>(&mut self, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(self.next(bytes.len()));
            pieces.push(piece);
            bytes = rest;
        }
        pieces
    }
}

/// Takes a byte from the front of the input, or 0 if there is none.
pub(super) fn byte(input: &mut &[u8]) -> u8 {
    let Some((&byte, rest)) = input.split_first() else {
        return 0;
    };
    *input = rest;
    byte
}
