//! How a track ended.

use crate::error::VerbsError;
use crate::sync::{AtomicBool, OnceLock, Ordering};

/// Whether a track has ended, and why. What was told once is told ever after; before that, a failure that is found later
/// takes the place of "closed".
pub(crate) struct Ending {
    ended: AtomicBool,
    /// The first failure, or `Closed` where that was told before one was found.
    cause: OnceLock<VerbsError>,
}

impl Ending {
    pub(crate) fn new() -> Self {
        Self { ended: AtomicBool::new(false), cause: OnceLock::new() }
    }

    /// The track has ended. Whoever sees that sees the failure too.
    pub(crate) fn end(&self, failure: Option<VerbsError>) {
        if let Some(failure) = failure.filter(|failure| *failure != VerbsError::Closed) {
            let _ = self.cause.set(failure);
        }
        self.ended.store(true, Ordering::SeqCst);
    }

    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn has_failed(&self) -> bool {
        self.cause.get().is_some_and(|cause| *cause != VerbsError::Closed)
    }

    /// Why, as far as is known.
    pub(crate) fn cause(&self) -> VerbsError {
        self.cause.get().cloned().unwrap_or(VerbsError::Closed)
    }

    /// Why, for the user: it stays so.
    pub(crate) fn tell(&self) -> VerbsError {
        self.cause.get_or_init(|| VerbsError::Closed).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(why: &str) -> VerbsError {
        VerbsError::Device { action: "receive", why: why.into() }
    }

    #[test]
    fn a_failure_that_is_found_before_the_user_is_told_is_the_cause() {
        let ending = Ending::new();
        ending.end(None);
        // An operation got it, which is not the user being told why the track ended.
        assert_eq!((ending.cause(), ending.has_failed()), (VerbsError::Closed, false));
        ending.end(Some(failure("first")));
        ending.end(Some(failure("second")));
        assert_eq!((ending.tell(), ending.cause()), (failure("first"), failure("first")));
        assert!(ending.has_ended() && ending.has_failed());
    }

    #[test]
    fn what_the_user_was_told_stays() {
        let ending = Ending::new();
        ending.end(Some(VerbsError::Closed));
        assert_eq!(ending.tell(), VerbsError::Closed);
        ending.end(Some(failure("late")));
        assert_eq!((ending.tell(), ending.has_failed()), (VerbsError::Closed, false));
    }
}
