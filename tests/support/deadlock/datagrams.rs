//! Messages over datagrams. What fills up is lost, which is promised too: a sender is never kept waiting by a receiver,
//! and once that receives, what is sent again and again arrives.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use trespass_carriers::{DatagramCarrier, DatagramConfig};
use trespass_core::{Datagram, Endpoint, ThreadFabric, Timer, Track};

use super::{End, Task, pattern};

/// How long an answer is waited for before the last message is said again.
const PATIENCE: Duration = Duration::from_millis(20);

pub(super) async fn whole<F>(end: End<F>) -> Vec<Task>
where
    F: ThreadFabric<Track: Track<Delivery = Datagram>>,
{
    let len = end.track.limits().max_message / 2;
    let count = end.count(len);
    let (timer, full) = (end.fabric.timer(), end.full);
    // Long enough for what both ends send before either answers.
    let config = DatagramConfig::default().with_open_timeout(Duration::from_secs(30));
    let mut carrier = DatagramCarrier::open(end.track, end.role, config).await.expect("opened");
    vec![Box::pin(async move {
        for at in 1..=count {
            carrier.send(&numbered(at, len)).await.expect("sent");
        }
        let (mut received, mut heard_last) = (0, false);
        let last = numbered(0, len);
        // `full` opens when both ends have heard the other's last.
        while !full.is_open() {
            carrier.send(&last).await.expect("sent");
            while let Some(message) = within(timer.sleep(PATIENCE), carrier.recv()).await {
                let message = message.expect("received").expect("nobody has said goodbye");
                let at = usize::from(message[0]) | usize::from(message[1]) << 8;
                assert!(*message == *numbered(at, len), "message {at}");
                received += usize::from(at != 0);
                if at == 0 && !heard_last {
                    heard_last = true;
                    full.say();
                }
            }
        }
        assert!(received < count, "{received} of {count}: nothing filled up");
    })]
}

fn numbered(at: usize, len: usize) -> Vec<u8> {
    let mut data = pattern(at, len);
    data[..2].copy_from_slice(&(at as u16).to_le_bytes());
    data
}

/// What `future` gives, if that comes before `alarm`.
async fn within<T>(mut alarm: impl Future<Output = ()> + Unpin, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Pin::new(&mut alarm).poll(cx).map(|()| None),
    })
    .await
}
