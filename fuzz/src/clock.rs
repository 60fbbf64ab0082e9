//! Waiting, in virtual time: for what woke, and not for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use trespass_mock::MockDriver;

/// Every deadline that a carrier has here, twice.
const PATIENCE: Duration = Duration::from_secs(60);
/// Far more than any wait takes.
const POLLS: usize = 10_000;

/// Whether a waker was woken.
#[derive(Default)]
pub(crate) struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Flag {
    pub(crate) fn new() -> (Arc<Self>, Waker) {
        let flag = Arc::new(Self::default());
        (Arc::clone(&flag), Waker::from(flag))
    }

    /// Whether it was since this was last asked.
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// Polls until that is ready: first, and whenever it was woken. `meanwhile` is what the peer does, and whether that was
/// anything; else time passes.
///
/// # Panics
/// Where it takes longer than any deadline, or wakes itself without end.
pub(crate) fn wait<T>(
    clock: &mut MockDriver,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    mut meanwhile: impl FnMut() -> bool,
) -> T {
    let (flag, waker) = Flag::new();
    let end = clock.now() + PATIENCE;
    for _ in 0..POLLS {
        if let Poll::Ready(output) = poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        while !flag.take() {
            if !meanwhile() {
                assert!(clock.now() < end, "a wait without end");
                clock.advance(Duration::from_millis(500));
            }
        }
    }
    panic!("{POLLS} polls, and no end");
}
