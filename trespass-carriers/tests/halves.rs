//! The two halves of a carrier, in two tasks and on two threads: they do what the whole one does.

mod support;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use futures_executor::block_on;
use static_assertions::assert_impl_all;
use support::{Carrier, Pair, both, carriers, join, pattern, poll_once, small};
use trespass_carriers::{CarrierError, MessageConfig, MessageReceiver, MessageSender};
use trespass_core::{ErrorKind, TransportError, TryError};
use trespass_mock::MockTrack;

type Sender = MessageSender<MockTrack>;
type Receiver = MessageReceiver<MockTrack>;

assert_impl_all!(Sender: Send);
assert_impl_all!(Receiver: Send);

fn pair() -> Pair<Carrier, Carrier> {
    carriers(small(), MessageConfig::default())
}

async fn send_all(mut sender: Sender, count: usize, len: usize) -> Sender {
    for at in 0..count {
        sender.send(&pattern(at, len)).await.unwrap();
    }
    sender.finish().await.unwrap();
    sender
}

async fn recv_all(mut receiver: Receiver, count: usize, len: usize) -> Receiver {
    for at in 0..count {
        let message = receiver.recv().await.unwrap().unwrap();
        assert!(*message == pattern(at, len), "message {at}");
    }
    assert!(receiver.recv().await.unwrap().is_none());
    receiver
}

/// The standing deadlock test: every sender sends all it has before its receiver begins.
#[test]
fn both_ends_may_send_before_either_receives() {
    for len in [0, 64, 248, 3000] {
        let pair = pair();
        let [left, right] = [pair.left, pair.right].map(|carrier| async move {
            let (sender, receiver) = carrier.split();
            let sender = send_all(sender, 2000, len).await;
            recv_all(receiver, 2000, len).await.reunite(sender).unwrap()
        });
        let (mut left, mut right) = both(left, right);
        assert!(left.stats().spilled_messages > 0, "{len} bytes: nothing filled up");
        assert_eq!(both(left.close(), right.close()), (Ok(()), Ok(())));
        assert_eq!(pair.fabrics.iter().map(|fabric| fabric.counters().rnr_stalls).sum::<u64>(), 0);
    }
}

/// Each half polled only when it was woken itself.
#[test]
fn each_half_has_a_waker_of_its_own() {
    for len in [1, 3000] {
        let Pair { left, right, .. } = pair();
        let [left, right] = [left, right].map(|carrier| {
            let (sender, receiver) = carrier.split();
            join(send_all(sender, 1000, len), recv_all(receiver, 1000, len))
        });
        both(left, right);
    }
}

#[test]
fn four_threads_for_two_carriers() {
    for len in [64, 3000] {
        let pair = pair();
        thread::scope(|scope| {
            for carrier in [pair.left, pair.right] {
                let (sender, receiver) = carrier.split();
                scope.spawn(move || block_on(send_all(sender, 5000, len)));
                scope.spawn(move || block_on(recv_all(receiver, 5000, len)));
            }
        });
        assert_eq!(pair.fabrics.iter().map(|fabric| fabric.counters().rnr_stalls).sum::<u64>(), 0);
    }
}

/// What the peer sends needs credits, which the receiver gives by itself.
#[test]
fn a_receiver_gives_credits_while_its_sender_is_never_called() {
    let Pair { left, right, .. } = pair();
    let (sender, receiver) = left.split();
    let (other, _kept) = right.split();
    both(recv_all(receiver, 1000, 200), send_all(other, 1000, 200));
    assert_eq!(sender.stats().messages_received, 1000);
    assert!(sender.stats().credit_updates_sent > 0);
}

/// A future dropped after any number of polls: its message arrives whole or not at all, and the next ones do.
#[test]
fn a_dropped_send_is_withdrawn() {
    let data = pattern(1, 9000);
    let mut withdrawn = 0;
    for polls in 0..30 {
        let Pair { left, right, .. } = pair();
        let ((mut sender, _receiver), (_sender, mut receiver)) = (left.split(), right.split());
        let (mut sent, mut heard) = (false, Vec::new());
        {
            let mut sending = sender.send(&data);
            for _ in 0..polls {
                sent = sent || poll_once(&mut sending).map(Result::unwrap).is_ready();
                if let Ok(message) = receiver.try_recv() {
                    heard.push(message.unwrap().to_vec());
                }
            }
        }
        both(
            async {
                sender.send(b"after").await.unwrap();
                sender.finish().await.unwrap();
            },
            async {
                while let Some(message) = receiver.recv().await.unwrap() {
                    heard.push(message.to_vec());
                }
            },
        );
        let expected = [&data[..], b"after"];
        assert!(heard == expected[usize::from(!sent)..], "{polls} polls");
        withdrawn += sender.stats().messages_withdrawn;
    }
    assert!(withdrawn > 0, "nothing was begun and dropped");
}

#[test]
fn a_dropped_recv_loses_nothing() {
    let Pair { left, right, .. } = pair();
    let ((mut sender, _receiver), (_sender, mut receiver)) = (left.split(), right.split());
    for at in 0..100 {
        for _ in 0..3 {
            assert!(poll_once(&mut pin!(receiver.recv())).is_pending());
        }
        block_on(sender.send(&pattern(at, 100))).unwrap();
        assert!(*block_on(receiver.recv()).unwrap().unwrap() == pattern(at, 100));
    }
}

/// Neither an end nor an error, until both halves are gone; then it is no clean end (K4).
#[test]
fn a_dropped_sender_is_no_end() {
    let Pair { left, right, .. } = pair();
    let (sender, mut receiver) = left.split();
    let (mut other, mut heard) = right.split();
    drop(sender);
    assert!(poll_once(&mut pin!(heard.recv())).is_pending());
    both(async { other.send(b"still here").await.unwrap() }, async {
        assert_eq!(*receiver.recv().await.unwrap().unwrap(), *b"still here");
    });
    drop(receiver);
    assert_eq!(block_on(heard.recv()).unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(block_on(other.send(b"gone")).unwrap_err().kind(), ErrorKind::Disconnected);
}

/// The peer's messages are discarded, without end, and never kept.
#[test]
fn a_dropped_receiver_keeps_no_peer_waiting() {
    let Pair { left, right, .. } = carriers(small(), MessageConfig::default().with_spill_limit(4096));
    let (sender, receiver) = left.split();
    let (other, heard) = right.split();
    drop(receiver);
    let (sender, _) = both(send_all(sender, 1000, 200), join(send_all(other, 1000, 200), recv_all(heard, 1000, 200)));
    assert_eq!((sender.stats().messages_received, sender.stats().spilled_messages), (0, 0));
}

#[test]
fn a_close_of_the_sender_ends_and_wakes_the_receiver() {
    let Pair { left, right, .. } = pair();
    let (mut sender, mut receiver) = left.split();
    let (_kept, mut heard) = right.split();
    let woken = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    assert!(receiver.poll_recv(&mut Context::from_waker(&waker)).is_pending());
    both(
        async {
            sender.try_send(b"last").unwrap();
            sender.close().await.unwrap();
            sender.close().await.unwrap();
        },
        async {
            assert_eq!(*heard.recv().await.unwrap().unwrap(), *b"last");
            assert!(heard.recv().await.unwrap().is_none());
        },
    );
    assert!(woken.0.load(Ordering::SeqCst) > 0);
    assert_eq!(block_on(receiver.recv()).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(sender.try_send(b"more"), Err(TryError::Failed(CarrierError::Closed)));
}

/// A receiver that goes on while the sender closes takes nothing from the close.
#[test]
fn a_receiver_does_not_disturb_a_close() {
    for _ in 0..200 {
        let Pair { left, right, .. } = pair();
        let (mut sender, mut receiver) = left.split();
        let (mut other, mut heard) = right.split();
        thread::scope(|scope| {
            scope.spawn(move || while block_on(receiver.recv()).is_ok_and(|message| message.is_some()) {});
            scope.spawn(move || while block_on(heard.recv()).is_ok_and(|message| message.is_some()) {});
            scope.spawn(move || {
                // The peer may have left by now.
                let sent = block_on(other.send(b"one")).map_err(|error| error.kind());
                assert!(matches!(sent, Ok(()) | Err(ErrorKind::Closed)), "{sent:?}");
                assert_eq!(block_on(other.close()), Ok(()));
            });
            assert_eq!(block_on(sender.close()), Ok(()));
        });
    }
}

#[test]
fn only_halves_of_one_carrier_are_reunited() {
    let Pair { left, right, .. } = pair();
    let ((mut left_sender, left_receiver), (right_sender, right_receiver)) = (left.split(), right.split());
    left_sender.try_send(b"queued").unwrap();
    let unmatched = left_receiver.reunite(right_sender).unwrap_err();
    let mut left = unmatched.receiver.reunite(left_sender).unwrap();
    let mut right = right_receiver.reunite(unmatched.sender).unwrap();
    left.flush().unwrap();
    assert_eq!(*block_on(right.recv()).unwrap().unwrap(), *b"queued");
    assert_eq!(both(left.close(), right.close()), (Ok(()), Ok(())));
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// The halves' own polls, without futures.
#[test]
fn halves_without_futures() {
    let Pair { left, right, .. } = pair();
    let ((mut sender, _receiver), (_sender, mut receiver)) = (left.split(), right.split());
    assert_eq!(receiver.try_recv().unwrap_err(), TryError::WouldBlock);
    let cx = &mut Context::from_waker(Waker::noop());
    assert_eq!(sender.poll_send_ready(cx), Poll::Ready(()));
    let mut buf = sender.try_reserve(4).unwrap();
    buf.copy_from_slice(b"here");
    sender.send_buf(buf).unwrap();
    sender.flush().unwrap();
    assert_eq!(receiver.poll_recv_ready(cx), Poll::Ready(()));
    assert_eq!(*receiver.try_recv().unwrap().unwrap(), *b"here");
    assert_eq!(sender.stats().messages_sent, 1);
    assert!(sender.eager_limit() < sender.max_message());
}

/// While a close is under way, there is nothing to receive: not even the end of the track.
#[test]
fn a_close_under_way_keeps_the_track_to_itself() {
    let Pair { left, right, .. } = pair();
    let (mut sender, mut receiver) = left.split();
    // One message waits for credits, and the goodbye behind it.
    let buf = sender.try_reserve(1).unwrap();
    while sender.try_send(b"fill").is_ok() {}
    sender.send_buf(buf).unwrap();
    assert!(poll_once(&mut pin!(sender.close())).is_pending());
    drop(right);
    assert_eq!(receiver.try_recv().unwrap_err(), TryError::WouldBlock);
    assert!(poll_once(&mut pin!(receiver.recv())).is_pending());
    // The peer died before it could be told.
    assert_eq!(block_on(sender.close()).unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(block_on(receiver.recv()).unwrap_err().kind(), ErrorKind::Disconnected);
}
