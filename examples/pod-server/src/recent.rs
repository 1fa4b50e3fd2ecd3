//! The last output of the pod's process, for clients that ask after it was printed.

use std::collections::VecDeque;

/// The number of bytes that are kept: hours of ticks. A client that asks for the log gets a copy at
/// once, so this is also the cost of a client that asks and does not read: 25 MiB for a hundred of
/// them.
pub(crate) const KEPT: usize = 256 * 1024;

/// The output of both streams in the order of its arrival, as a terminal would show it.
#[derive(Debug)]
pub(crate) struct Recent {
    bytes: VecDeque<u8>,
    /// Set if the first line has lost its beginning.
    is_cut: bool,
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            // Allocated in full now, because a buffer that grows could end up at twice the size.
            bytes: VecDeque::with_capacity(KEPT),
            is_cut: false,
        }
    }
}

impl Recent {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let excess = (self.bytes.len() + bytes.len()).saturating_sub(KEPT);
        let of_ours = excess.min(self.bytes.len());
        let (lost, kept) = bytes.split_at(excess - of_ours);
        let last_of_ours = of_ours.checked_sub(1).and_then(|at| self.bytes.get(at));
        if let Some(last) = lost.last().or(last_of_ours) {
            self.is_cut = *last != b'\n';
        }
        self.bytes.drain(..of_ours);
        self.bytes.extend(kept);
    }

    /// Returns the last `lines` lines, or everything that is kept if `lines` is `None`. A last line
    /// without an end counts too. A first line that has lost its beginning is left out, unless it
    /// has no end either.
    pub(crate) fn lines(&mut self, lines: Option<u64>) -> &[u8] {
        let is_cut = self.is_cut;
        let mut text: &[u8] = self.bytes.make_contiguous();
        if is_cut && let Some(end) = text.iter().position(|&byte| byte == b'\n') {
            text = &text[end + 1..];
        }
        match lines {
            Some(lines) => last(text, lines),
            None => text,
        }
    }
}

fn last(text: &[u8], lines: u64) -> &[u8] {
    let Some(before) = lines.checked_sub(1) else {
        return &[];
    };
    // A number that does not fit into `usize` is larger than the number of lines.
    let before = usize::try_from(before).unwrap_or(usize::MAX);
    // The very last byte may end a line, but begins none.
    let mut ends = (0..text.len().saturating_sub(1))
        .rev()
        .filter(|&at| text[at] == b'\n');
    match ends.nth(before) {
        Some(end) => &text[end + 1..],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(parts: &[&[u8]]) -> Recent {
        let mut recent = Recent::default();
        for part in parts {
            recent.push(part);
        }
        recent
    }

    #[test]
    fn the_last_lines_are_whole_ones() {
        let mut recent = of(&[b"one\ntwo\n", b"thr", b"ee\n"]);
        for (lines, expected) in [
            (None, "one\ntwo\nthree\n"),
            (Some(0), ""),
            (Some(1), "three\n"),
            (Some(2), "two\nthree\n"),
            (Some(3), "one\ntwo\nthree\n"),
            (Some(u64::MAX), "one\ntwo\nthree\n"),
        ] {
            assert_eq!(recent.lines(lines), expected.as_bytes(), "{lines:?}");
        }
        assert_eq!(Recent::default().lines(Some(3)), b"");
    }

    #[test]
    fn a_line_without_an_end_is_one() {
        let mut recent = of(&[b"one\n\ntwo"]);
        assert_eq!(recent.lines(Some(1)), b"two");
        assert_eq!(recent.lines(Some(2)), b"\ntwo");
    }

    #[test]
    fn no_more_is_kept_whatever_is_printed() {
        let mut recent = Recent::default();
        for length in [1, 1000, KEPT - 1, KEPT, KEPT + 1, 3 * KEPT] {
            for _ in 0..3 {
                recent.push(&vec![b'x'; length]);
                assert!(recent.bytes.len() <= KEPT);
            }
        }
        assert_eq!(recent.lines(None).len(), KEPT);
        assert_eq!(recent.bytes.capacity(), KEPT);
    }

    #[test]
    fn a_line_that_lost_its_beginning_is_left_out() {
        let filler = vec![b'x'; KEPT - 4];
        // Exactly full, then one byte too many, then cut at the end of a line.
        let mut recent = of(&[b"ab\n", &filler, b"\n"]);
        assert_eq!(recent.lines(None).len(), KEPT);
        recent.push(b"c");
        assert_eq!(recent.lines(None)[..2], *b"xx");
        recent.push(b"de");
        assert_eq!(recent.lines(None)[..2], *b"xx");
        recent.push(b"f");
        assert_eq!(recent.lines(None), b"cdef");
    }

    #[test]
    fn of_a_line_longer_than_all_the_end_is_kept() {
        let mut recent = of(&[&vec![b'x'; KEPT], b"end"]);
        let lines = recent.lines(Some(1));
        assert!(lines.len() == KEPT && lines.ends_with(b"xend"));
        // One push larger than all, with a line's end where it is cut.
        let mut large = vec![b'a'; 5];
        large.push(b'\n');
        large.resize(KEPT + 6, b'b');
        let mut recent = of(&[b"old", &large]);
        assert!(recent.lines(None).iter().all(|&byte| byte == b'b'));
        assert_eq!(recent.lines(None).len(), KEPT);
    }
}
