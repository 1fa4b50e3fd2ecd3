use std::io::IoSlice;

/// The next bytes to write.
pub(crate) struct Next<'a> {
    slices: [IoSlice<'a>; 2],
    /// Set if there are two slices. Otherwise the second is empty.
    pub(crate) vectored: bool,
}

impl<'a> Next<'a> {
    pub(super) fn new(first: &'a [u8], second: &'a [u8]) -> Self {
        if first.is_empty() {
            return Self {
                slices: [IoSlice::new(second), IoSlice::new(&[])],
                vectored: false,
            };
        }
        Self {
            vectored: !second.is_empty(),
            slices: [IoSlice::new(first), IoSlice::new(second)],
        }
    }

    pub(crate) fn first(&self) -> &[u8] {
        &self.slices[0]
    }

    pub(crate) fn slices(&self) -> &[IoSlice<'a>] {
        &self.slices
    }
}
