//! What decides, without IO: frames, windows, and who calls what, at both ends.

pub(crate) mod calls;
pub(crate) mod flow;
pub(crate) mod served;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

use std::task::Waker;

/// Who waits for one thing.
#[derive(Debug, Default)]
pub(crate) struct Waiter(Option<Waker>);

impl Waiter {
    pub(crate) fn register(&mut self, waker: &Waker) {
        match &mut self.0 {
            Some(old) => old.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }

    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }

    pub(crate) fn waker(&self) -> Option<&Waker> {
        self.0.as_ref()
    }
}
