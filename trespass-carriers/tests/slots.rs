//! A device that gives send slots back late: what waits for one goes out when there is one, in order.

mod support;

use std::future::{Future, poll_fn};
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_executor::block_on;
use support::{both, join, poll_once, small, tracks};
use trespass_carriers::{CarrierError, MessageCarrier, MessageConfig};
use trespass_core::{Endpoint, Limits, RecvSide, Reliable, Role, SendSide, Track, TryError, Unsent, WakerSlot};
use trespass_mock::{MockAddr, MockError, MockReceiver, MockRecvBuf, MockSendBuf, MockSender, MockTimer, MockTrack};

/// A track whose send slots are all under way while its gate is shut, and which cannot close either.
struct Gated {
    track: MockTrack,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    shut: AtomicBool,
    /// Before the close was through, the peer's end of the track was gone.
    cut: AtomicBool,
    waiting: WakerSlot,
}

impl Gate {
    fn shut(&self, shut: bool) {
        self.shut.store(shut, Ordering::SeqCst);
        self.waiting.wake();
    }

    fn is_shut(&self) -> bool {
        self.shut.load(Ordering::SeqCst)
    }
}

impl Endpoint for Gated {
    type Error = MockError;
    type Addr = MockAddr;
    type Timer = MockTimer;

    fn limits(&self) -> Limits {
        self.track.limits()
    }

    fn local(&self) -> MockAddr {
        self.track.local()
    }

    fn peer(&self) -> MockAddr {
        self.track.peer()
    }

    fn timer(&self) -> MockTimer {
        self.track.timer()
    }
}

impl SendSide for Gated {
    type SendBuf = MockSendBuf;

    fn try_reserve(&mut self, len: usize) -> Result<MockSendBuf, TryError<MockError>> {
        if self.gate.is_shut() { Err(TryError::WouldBlock) } else { self.track.try_reserve(len) }
    }

    fn send(&mut self, buf: MockSendBuf) -> Result<(), Unsent<MockSendBuf, MockError>> {
        self.track.send(buf)
    }

    fn flush(&mut self) -> Result<(), MockError> {
        self.track.flush()
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.gate.waiting.register(cx.waker());
        if self.gate.is_shut() { Poll::Pending } else { self.track.poll_send_ready(cx) }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), MockError>> {
        self.gate.waiting.register(cx.waker());
        match (self.gate.is_shut(), self.gate.cut.load(Ordering::SeqCst)) {
            (true, _) => Poll::Pending,
            (false, true) => Poll::Ready(Err(MockError::Closed)),
            (false, false) => self.track.poll_close(cx),
        }
    }
}

impl RecvSide for Gated {
    type RecvBuf = MockRecvBuf;

    fn posted(&self) -> u64 {
        self.track.posted()
    }

    fn try_recv(&mut self) -> Result<MockRecvBuf, TryError<MockError>> {
        self.track.try_recv()
    }

    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.track.poll_recv_ready(cx)
    }
}

impl Track for Gated {
    type Delivery = Reliable;
    type Sender = MockSender;
    type Receiver = MockReceiver;

    fn split(self) -> (MockSender, MockReceiver) {
        self.track.split()
    }
}

/// A plain carrier, one with a gate, and the gate.
fn opened() -> (MessageCarrier<MockTrack>, MessageCarrier<Gated>, Arc<Gate>) {
    let pair = tracks(small(), small());
    let gate = Arc::new(Gate::default());
    let gated = Gated { track: pair.right, gate: Arc::clone(&gate) };
    let (left, right) = both(
        MessageCarrier::open(pair.left, Role::Connector, MessageConfig::default()),
        MessageCarrier::open(gated, Role::Acceptor, MessageConfig::default()),
    );
    (left.unwrap(), right.unwrap(), gate)
}

/// Lets `left` send until it has no credits and `right` has no slots to give any with.
fn fill_up(left: &mut MessageCarrier<MockTrack>, right: &mut MessageCarrier<Gated>) {
    for _ in 0..100 {
        if left.try_send(b"one way").is_ok() {
            left.flush().unwrap();
        }
        let _ = right.try_recv();
    }
}

#[test]
fn credits_that_wait_for_a_slot_go_out_when_there_is_one() {
    let (mut left, mut right, gate) = opened();
    gate.shut(true);
    both(
        async {
            fill_up(&mut left, &mut right);
            let updates = right.stats().credit_updates_sent;
            assert_eq!(updates, 2, "what was kept for control");
            // The peer waits for credits, this end for a message and so for a slot; the gate opens meanwhile.
            let (sent, received) = join(left.send(b"next"), right.recv()).await;
            sent.unwrap();
            assert_eq!(&*received.unwrap().unwrap(), b"next");
        },
        async {
            for _ in 0..10 {
                yield_now().await;
            }
            gate.shut(false);
        },
    );
}

#[test]
fn a_send_that_waits_for_a_slot_goes_on_when_there_is_one() {
    let (mut left, mut right, gate) = opened();
    gate.shut(true);
    both(
        async {
            let (sent, received) = join(right.send(&[5; 3000]), left.recv()).await;
            sent.unwrap();
            assert_eq!(*received.unwrap().unwrap(), [5; 3000]);
        },
        async {
            for _ in 0..10 {
                yield_now().await;
            }
            gate.shut(false);
        },
    );
}

/// A withdrawal that waits for a slot: a message that has its slot may not overtake it, or it would come in the middle.
#[test]
fn nothing_overtakes_a_withdrawal() {
    let (mut left, mut right, gate) = opened();
    let buf = right.try_reserve(3).unwrap();
    let data = [5; 3000];
    let mut sending = right.send(&data);
    assert!(poll_once(&mut sending).is_pending());
    mem::forget(sending);
    gate.shut(true);
    // Uses the slots that were kept for control, and gives this end credits for data again.
    fill_up(&mut left, &mut right);
    while left.try_recv().is_ok() {}
    right.send_buf(buf).unwrap();
    right.flush().unwrap();
    assert!(left.try_recv().is_err());
    gate.shut(false);
    let (finished, received) = both(
        async {
            right.flush().unwrap();
            while let Ok(Some(_)) = right.try_recv() {}
            right.finish().await
        },
        async {
            let first = left.recv().await.unwrap().map(|message| message.len());
            (first, left.recv().await.unwrap().is_none())
        },
    );
    finished.unwrap();
    assert_eq!(received, (Some(3), true));
}

/// The peer's end was gone before this end's goodbye was known to have arrived. If the peer had said its own, all is well.
#[test]
fn a_close_that_the_peers_close_cuts_short_is_clean() {
    for peer_says_goodbye in [true, false] {
        let (mut left, mut right, gate) = opened();
        gate.shut(true);
        assert!(poll_once(&mut Box::pin(right.close())).is_pending());
        if peer_says_goodbye {
            block_on(left.close()).unwrap();
        }
        drop(left);
        gate.cut.store(true, Ordering::SeqCst);
        gate.shut(false);
        let closed = block_on(right.close());
        match peer_says_goodbye {
            true => assert_eq!(closed, Ok(())),
            false => assert_eq!(closed, Err(CarrierError::Disconnected)),
        }
    }
}

async fn yield_now() {
    let mut yielded = false;
    let mut once = pin!(poll_fn(move |cx| {
        cx.waker().wake_by_ref();
        match mem::replace(&mut yielded, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }));
    poll_fn(|cx| once.as_mut().poll(cx)).await;
}
