//! How much memory a carrier has.

use allocation_counter::measure;

/// What calls of one carrier have left allocated, and how much that may be.
pub(crate) struct Meter {
    held: i64,
    limit: usize,
}

impl Meter {
    pub(crate) fn new(limit: usize) -> Self {
        Self { held: 0, limit }
    }

    /// Does what is counted: a call of the carrier, or letting go of what it gave.
    ///
    /// # Panics
    /// Where more than the limit is allocated at any time.
    pub(crate) fn run<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let mut given = None;
        let used = measure(|| given = Some(call()));
        let most = self.held + i64::try_from(used.bytes_max).unwrap_or(i64::MAX);
        assert!(most <= self.limit as i64, "{most} bytes at once, where {} may be", self.limit);
        self.held += used.bytes_current;
        given.expect("it was called")
    }
}
