//! Messages: whole carriers send everything before they receive anything; of halves the receiver waits until both ends
//! are full.

use std::future::poll_fn;
use std::task::{Poll, ready};

use trespass_carriers::{MessageCarrier, MessageConfig, MessageSender, RendezvousCarrier, RendezvousConfig};
use trespass_core::{InOrder, Lossless, ThreadFabric, ThreadMemoryFabric, Track, TryError};

use super::{End, Gate, Task, pattern};

/// By which calls messages are sent.
#[derive(Clone, Copy)]
enum By {
    Copy,
    WritingInPlace,
}

pub(super) async fn eager<F>(end: End<F>) -> Vec<Task>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let len = end.frame() / 3;
    whole(end, len, By::Copy).await
}

pub(super) async fn segmented<F>(end: End<F>) -> Vec<Task>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let len = 10 * end.frame() + 3;
    whole(end, len, By::Copy).await
}

pub(super) async fn in_place<F>(end: End<F>) -> Vec<Task>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let len = end.frame();
    whole(end, len, By::WritingInPlace).await
}

async fn whole<F>(end: End<F>, len: usize, by: By) -> Vec<Task>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let count = end.count(len);
    // What is copied out of the way counts as the memory that it takes, which may be twice as much.
    let config = MessageConfig::default().with_spill_limit(32 << 20);
    let carrier = MessageCarrier::open(end.track, end.role, config).await.expect("opened");
    vec![Box::pin(send_then_receive(carrier, count, len, by))]
}

/// Sends `count` messages, all of them before the first of the peer's is received.
async fn send_then_receive<T: Track<Delivery: Lossless + InOrder>>(
    mut carrier: MessageCarrier<T>,
    count: usize,
    len: usize,
    by: By,
) {
    for at in 0..count {
        let data = pattern(at, len);
        match by {
            By::Copy => carrier.send(&data).await.expect("sent"),
            By::WritingInPlace => write_in_place(&mut carrier, &data).await,
        }
    }
    carrier.finish().await.expect("finished");
    let stats = carrier.stats();
    assert!(stats.stalls > 0, "nothing filled up: {stats:?}");
    for at in 0..count {
        let message = carrier.recv().await.expect("received").expect("a message");
        assert!(*message == pattern(at, len), "message {at} of {len} bytes");
    }
    assert!(carrier.recv().await.expect("the end").is_none());
    carrier.close().await.expect("closed");
}

async fn write_in_place<T: Track<Delivery: Lossless + InOrder>>(carrier: &mut MessageCarrier<T>, data: &[u8]) {
    let mut buf = poll_fn(|cx| {
        loop {
            match carrier.try_reserve(data.len()) {
                Ok(buf) => return Poll::Ready(buf),
                Err(TryError::WouldBlock) => ready!(carrier.poll_send_ready(cx)),
                Err(TryError::Failed(error)) => panic!("{error}"),
            }
        }
    })
    .await;
    buf.copy_from_slice(data);
    carrier.send_buf(buf).expect("queued");
    carrier.flush().expect("flushed");
}

/// Long messages that stay where they are, as many as may, and short ones between them.
pub(super) async fn lent<F>(end: End<F>) -> Vec<Task>
where
    F: ThreadMemoryFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    const LENT: usize = 64;
    const LONG: usize = 20_000;
    let short = end.frame() / 2;
    let each = end.count(short).div_ceil(LENT);
    let len = move |at: usize| if at % (each + 1) == 0 { LONG } else { short };
    let count = LENT * (each + 1);
    let config = RendezvousConfig::new(end.fabric.clone()).with_lend_from(LONG);
    let mut carrier = RendezvousCarrier::open(end.track, end.role, config).await.expect("opened");
    vec![Box::pin(async move {
        for at in 0..count {
            let data = pattern(at, len(at));
            if data.len() < LONG {
                carrier.send(&data).await.expect("sent");
                continue;
            }
            let mut region = carrier.alloc(LONG).expect("memory");
            region.copy_from_slice(&data);
            carrier.send_region(region, 0..LONG).await.expect("lent");
        }
        carrier.finish().await.expect("finished");
        let stats = carrier.stats();
        assert!(stats.stalls > 0, "nothing filled up: {stats:?}");
        for at in 0..count {
            let message = carrier.recv().await.expect("received").expect("a message");
            assert!(*message == pattern(at, len(at)), "message {at}");
            assert_eq!(message.was_lent(), len(at) == LONG);
        }
        assert!(carrier.recv().await.expect("the end").is_none());
        for _ in 0..LENT {
            assert_eq!(carrier.returned().await.map(|region| region.len()), Some(LONG));
        }
        carrier.close().await.expect("closed");
    })]
}

/// A task for each half. With `spill_limit` 0 a sender waits for the peer's receiver, and for nothing else.
pub(super) async fn halves<F>(end: End<F>, spill_limit: usize) -> Vec<Task>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let (short, long) = (end.frame() / 2, 3 * end.frame());
    let (count, hold, full) = (end.count(short), end.hold(), end.full.clone());
    let config = MessageConfig::default().with_spill_limit(spill_limit);
    let carrier = MessageCarrier::open(end.track, end.role, config).await.expect("opened");
    let (mut sender, mut receiver) = carrier.split();
    let heard = Gate::of(1);
    let all_heard = heard.clone();
    let sending = async move {
        let filled = fill(&mut sender, short).await;
        assert!(filled < count, "{filled} of {count} before it was full");
        full.say();
        for at in filled..count {
            let len = if at % 4 == 0 { long } else { short };
            sender.send(&pattern(at, len)).await.expect("sent");
        }
        sender.finish().await.expect("finished");
        // A close ends both directions.
        poll_fn(|cx| all_heard.poll_open(cx)).await;
        sender.close().await.expect("closed");
    };
    let receiving = async move {
        hold.over().await;
        for at in 0..count {
            let message = receiver.recv().await.expect("received").expect("a message");
            assert!([short, long].contains(&message.len()) && *message == pattern(at, message.len()), "message {at}");
        }
        assert!(receiver.recv().await.expect("the end").is_none());
        heard.say();
    };
    vec![Box::pin(sending), Box::pin(receiving)]
}

/// Sends until there are no credits left. How many messages that took.
async fn fill<T: Track<Delivery: Lossless + InOrder>>(sender: &mut MessageSender<T>, len: usize) -> usize {
    let mut sent = 0;
    poll_fn(|cx| {
        loop {
            match sender.try_send(&pattern(sent, len)) {
                Ok(()) => sent += 1,
                Err(TryError::WouldBlock) if sender.stats().stalls > 0 => return Poll::Ready(()),
                Err(TryError::WouldBlock) => ready!(sender.poll_send_ready(cx)),
                Err(TryError::Failed(error)) => panic!("{error}"),
            }
        }
    })
    .await;
    sender.flush().expect("flushed");
    sent
}
