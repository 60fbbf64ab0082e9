//! Futures that are given up.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use trespass_core::Timer;
use trespass_mock::MockTimer;

/// Polls `future` to its end, or so many times; each but the first only when it was woken, or some time has passed.
pub(crate) async fn polls<F: Future>(future: F, most: Option<usize>, timer: &MockTimer) -> Option<F::Output> {
    let mut future = pin!(future);
    let Some(most) = most else { return Some(future.await) };
    let mut left = most;
    let mut alarm = timer.sleep(Duration::from_micros(20));
    poll_fn(|cx: &mut Context<'_>| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        // So that one that is never woken is given up too.
        while Pin::new(&mut alarm).poll(cx).is_ready() {
            alarm = timer.sleep(Duration::from_micros(20));
        }
        Poll::Pending
    })
    .await
}
