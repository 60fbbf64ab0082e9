//! A node's clock: the fabric's, from a beginning of its own.

use std::time::Duration;

use trespass::core::Timer;

/// What the fabric's clock said at the beginning differs from process to process; in a simulation it does not, so there a node is
/// given another beginning, and whoever mixes up two nodes' clocks is found.
#[derive(Debug, Clone)]
pub(crate) struct Clock<T> {
    timer: T,
    zero: Duration,
}

impl<T: Timer> Clock<T> {
    pub(crate) fn new(timer: T, zero: Duration) -> Self {
        Self { timer, zero }
    }

    pub(crate) fn now(&self) -> Duration {
        self.timer.now().saturating_add(self.zero)
    }

    pub(crate) fn timer(&self) -> &T {
        &self.timer
    }
}
