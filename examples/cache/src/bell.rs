//! A bell for one who sleeps: rung while nobody does, it is heard later.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use trespass::core::{Timer, WakerSlot};

#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    waker: WakerSlot,
}

impl Bell {
    pub(crate) fn ring(&self) {
        self.rung.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    /// Until it is rung.
    pub(crate) async fn heard(&self) {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            match self.rung.swap(false, Ordering::SeqCst) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// Until it is rung, or `limit` is over.
    pub(crate) async fn heard_within<T: Timer>(&self, timer: &T, limit: Duration) {
        let mut alarm = timer.sleep(limit);
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            match self.rung.swap(false, Ordering::SeqCst) {
                true => Poll::Ready(()),
                false => Future::poll(Pin::new(&mut alarm), cx),
            }
        })
        .await;
    }
}
