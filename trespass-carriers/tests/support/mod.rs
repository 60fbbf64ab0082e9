//! What the tests of this crate share.
#![allow(dead_code)] // Each test binary uses a part of it.

pub(crate) mod raw;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_executor::block_on;
use trespass_carriers::{CarrierError, MessageCarrier, MessageConfig};
use trespass_core::{Fabric, Incoming, ListenerExt, Role, WakerSlot};
use trespass_mock::{MockAddr, MockConfig, MockError, MockFabric, MockNet, MockTrack};

pub(crate) type Carrier = MessageCarrier<MockTrack>;
pub(crate) type Error = CarrierError<MockError>;

/// Sizes small enough that everything fills up.
pub(crate) fn small() -> MockConfig {
    MockConfig::default().with_max_message(256).with_send_slots(8).with_recv_slots(8)
}

/// Two ends, each of a fabric of its own, and the fabrics.
pub(crate) struct Pair<L, R> {
    pub(crate) left: L,
    pub(crate) right: R,
    pub(crate) fabrics: [MockFabric; 2],
}

impl<L, R> Pair<L, R> {
    /// How many messages met a receiver that was not ready, on either side.
    pub(crate) fn rnr(&self) -> u64 {
        self.fabrics.iter().map(|fabric| fabric.counters().rnr_stalls).sum()
    }
}

/// Two raw tracks: the left one connected.
pub(crate) fn tracks(left: MockConfig, right: MockConfig) -> Pair<MockTrack, MockTrack> {
    tracks_in(&MockNet::new(), left, right)
}

/// The same, where no time passes: no deadline interferes, and no alarm costs anything.
pub(crate) fn timeless_tracks(left: MockConfig, right: MockConfig) -> Pair<MockTrack, MockTrack> {
    tracks_in(&MockNet::virtual_time().0, left, right)
}

pub(crate) fn tracks_in(net: &MockNet, left: MockConfig, right: MockConfig) -> Pair<MockTrack, MockTrack> {
    let fabrics = [net.fabric(left).unwrap(), net.fabric(right).unwrap()];
    let addr: MockAddr = "there".parse().unwrap();
    let mut listener = fabrics[1].listen(&addr).unwrap();
    let connecting = fabrics[0].connect(&addr);
    block_on(async {
        let right = listener.incoming().await.unwrap().accept().await.unwrap();
        Pair { left: connecting.await.unwrap(), right, fabrics }
    })
}

/// Two carriers.
pub(crate) fn carriers(track: MockConfig, config: MessageConfig) -> Pair<Carrier, Carrier> {
    let Pair { left, right, fabrics } = tracks(track.clone(), track);
    let (left, right) = both(
        MessageCarrier::open(left, Role::Connector, config.clone()),
        MessageCarrier::open(right, Role::Acceptor, config),
    );
    Pair { left: left.unwrap(), right: right.unwrap(), fabrics }
}

/// Runs two futures to their ends, side by side.
pub(crate) fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    block_on(join(a, b))
}

/// Both, each polled only when it was woken itself: what relies on the other's wakes hangs.
pub(crate) async fn join<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (pin!(Branch::new(a)), pin!(Branch::new(b)));
    std::future::poll_fn(|cx| match (a.as_mut().poll(cx), b.as_mut().poll(cx)) {
        (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(()),
        _ => Poll::Pending,
    })
    .await;
    (a.output.take().unwrap(), b.output.take().unwrap())
}

/// A future that is polled only when it was woken.
struct Branch<F: Future> {
    future: Pin<Box<F>>,
    output: Option<F::Output>,
    woken: Arc<Woken>,
}

struct Woken {
    woken: AtomicBool,
    parent: WakerSlot,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.parent.wake();
    }
}

impl<F: Future> Unpin for Branch<F> {}

impl<F: Future> Branch<F> {
    fn new(future: F) -> Self {
        let woken = Arc::new(Woken { woken: AtomicBool::new(true), parent: WakerSlot::new() });
        Self { future: Box::pin(future), output: None, woken }
    }
}

impl<F: Future> Future for Branch<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.woken.parent.register(cx.waker());
        if self.output.is_none() && self.woken.woken.swap(false, Ordering::SeqCst) {
            let waker = Waker::from(Arc::clone(&self.woken));
            if let Poll::Ready(output) = self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
                self.output = Some(output);
            }
        }
        match self.output {
            Some(_) => Poll::Ready(()),
            None => Poll::Pending,
        }
    }
}

/// Polls once, with a waker that does nothing.
pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Bytes that differ from place to place and from message to message.
pub(crate) fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31) ^ seed.wrapping_mul(131) ^ (at >> 8)) as u8).collect()
}
