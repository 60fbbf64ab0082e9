//! How often the bytes of a message are copied: by the device once, and by a processor as often as the documents say.
//!
//! A copy needs a place. What is received where the device wrote it lies in one of the few places that the track has; what was
//! put together was put in memory that was allocated for it, and there is not enough of that for two.

#[path = "support/streams.rs"]
mod streams;
mod support;

use std::collections::HashSet;

use allocation_counter::measure;
use futures_executor::block_on;
use streams::streams;
use support::{Pair, both, carriers, pattern, poll_once, small, tracks};
use trespass_carriers::{MessageConfig, RendezvousCarrier, RendezvousConfig, StreamConfig, TryRegionError};
use trespass_core::{Role, TryError};
use trespass_mock::{MockCounters, MockFabric};

/// How many slots a track here has, each way.
const SLOTS: usize = 8;
/// The header of a frame.
const HEADER: u64 = 8;

/// What both devices did since `before`.
fn moved(fabrics: &[MockFabric; 2], before: MockCounters) -> MockCounters {
    total(fabrics).since(before)
}

fn total(fabrics: &[MockFabric; 2]) -> MockCounters {
    let mut sum = MockCounters::default();
    fabrics.iter().for_each(|fabric| sum += fabric.counters());
    sum
}

fn place(bytes: &[u8]) -> usize {
    bytes.as_ptr().addr()
}

/// In place at both ends: no copy but the device's. `send` has one more, into the memory that `try_reserve` gives.
macro_rules! eager {
    ($from:expr, $to:expr, $fabrics:expr) => {{
        let (mut there, mut here) = (HashSet::new(), HashSet::new());
        let before = total($fabrics);
        for seed in 0..500 {
            let mut buf = $from.try_reserve(200).unwrap();
            buf.copy_from_slice(&pattern(seed, 200));
            there.insert(place(&buf));
            $from.send_buf(buf).unwrap();
            $from.flush().unwrap();
            let message = $to.try_recv().unwrap().expect("a message");
            assert!(message.is_direct() && *message == pattern(seed, 200));
            here.insert(place(&message));
            drop(message);
            // Credits go back with it.
            $to.try_send(b"x").unwrap();
            $to.flush().unwrap();
            assert_eq!(*$from.try_recv().unwrap().unwrap(), *b"x");
        }
        let moved = moved($fabrics, before);
        assert!(there.len() <= SLOTS && here.len() <= SLOTS, "{} and {}", there.len(), here.len());
        let credits = moved.sends - 1000;
        assert_eq!((moved.dma_copies, moved.cpu_copies), (1000 + credits, 0));
        // Whole messages are bare.
        assert_eq!(moved.dma_bytes, 500 * (200 + 1) + credits * HEADER);
    }};
}

#[test]
fn a_message_of_one_frame_is_copied_by_the_device_alone() {
    let mut pair = carriers(small(), MessageConfig::default());
    eager!(pair.left, pair.right, &pair.fabrics);
    let ((mut sender, mut theirs), (mut ours, mut receiver)) = (pair.left.split(), pair.right.split());
    let mut from = Whole(&mut sender, &mut theirs);
    let mut to = Whole(&mut ours, &mut receiver);
    eager!(from, to, &pair.fabrics);
}

/// Two halves, called as a whole is.
struct Whole<'a>(
    &'a mut trespass_carriers::MessageSender<trespass_mock::MockTrack>,
    &'a mut trespass_carriers::MessageReceiver<trespass_mock::MockTrack>,
);

impl Whole<'_> {
    fn try_reserve(
        &mut self,
        len: usize,
    ) -> Result<trespass_carriers::MessageBuf<trespass_mock::MockTrack>, TryError<support::Error>> {
        self.0.try_reserve(len)
    }

    fn send_buf(&mut self, buf: trespass_carriers::MessageBuf<trespass_mock::MockTrack>) -> Result<(), support::Error> {
        self.0.send_buf(buf).map_err(|unsent| unsent.error)
    }

    fn try_send(&mut self, data: &[u8]) -> Result<(), TryError<support::Error>> {
        self.0.try_send(data)
    }

    fn flush(&mut self) -> Result<(), support::Error> {
        self.0.flush()
    }

    fn try_recv(
        &mut self,
    ) -> Result<Option<trespass_carriers::Message<trespass_mock::MockTrack>>, TryError<support::Error>> {
        self.1.try_recv()
    }
}

/// A message in segments, the first ever: nothing is allocated to send it, and to receive it room for one.
#[test]
fn a_message_in_segments_is_put_together_once() {
    const LEN: usize = 64 << 10;
    let pair = carriers(small(), MessageConfig::default());
    let data = pattern(1, LEN);
    let ((mut sender, _theirs), (_ours, mut receiver)) = (pair.left.split(), pair.right.split());
    let before = total(&pair.fabrics);
    let (mut to_send, mut to_receive) = (0, 0);
    let mut sending = sender.send(&data);
    let (mut sent, mut message) = (false, None);
    while !(sent && message.is_some()) {
        to_send += measure(|| sent = sent || poll_once(&mut sending).map(Result::unwrap).is_ready()).bytes_total;
        let used = measure(|| {
            message = message.take().or_else(|| receiver.try_recv().ok().flatten());
        });
        to_receive += used.bytes_total;
    }
    let message = message.expect("a message");
    assert!(!message.is_direct() && *message == data);
    assert_eq!(to_send, 0);
    assert!((LEN as u64..2 * LEN as u64).contains(&to_receive), "{to_receive} bytes for one message of {LEN}");
    // And each byte goes over once.
    let moved = moved(&pair.fabrics, before);
    let first = 8;
    assert_eq!((moved.dma_bytes, moved.dma_copies), (LEN as u64 + first + moved.sends * HEADER, moved.sends));
}

/// Lent: the device reads it from where it was written into where the application has it.
#[test]
fn a_message_that_is_lent_is_copied_by_the_device_alone() {
    const LEN: usize = 10_000;
    let Pair { left, right, fabrics } = tracks(small(), small());
    let config = |fabric: &MockFabric| RendezvousConfig::new(fabric.clone()).with_lend_from(1000);
    let (left, right) = both(
        RendezvousCarrier::open(left, Role::Connector, config(&fabrics[0])),
        RendezvousCarrier::open(right, Role::Acceptor, config(&fabrics[1])),
    );
    let (mut sender, _theirs) = left.unwrap().split();
    let (_ours, mut receiver) = right.unwrap().split();
    let mut region = sender.alloc(LEN).unwrap();
    let written = place(&region);
    let before = total(&fabrics);
    for seed in 0..200 {
        region.copy_from_slice(&pattern(seed, LEN));
        region = match seed % 2 {
            0 => {
                block_on(sender.send_region(region, 0..LEN)).unwrap();
                region_of(block_on(receiver.recv()).unwrap().expect("a message"), seed);
                block_on(sender.returned()).expect("it was read")
            }
            _ => {
                match sender.try_send_region(region, 0..LEN) {
                    Ok(()) => sender.flush().unwrap(),
                    Err(TryRegionError::WouldBlock(_)) => panic!("there is room for one"),
                    Err(TryRegionError::Failed(error)) => panic!("{error}"),
                }
                region_of(receiver.try_recv().unwrap().expect("a message"), seed);
                sender.try_returned().expect("it was read")
            }
        };
        assert_eq!(place(&region), written, "what was lent never moved");
    }
    let moved = moved(&fabrics, before);
    // A frame that says where it is, one that says that it was read, and some for credits; and each byte of it once.
    let credits = moved.sends - 400;
    assert_eq!((moved.operations, moved.dma_copies, moved.cpu_copies), (200, 600 + credits, 0));
    assert_eq!(moved.dma_bytes, 200 * (LEN as u64 + 32 + 8) + credits * HEADER);
}

/// The memory that the device wrote to is what the application has.
fn region_of(message: trespass_carriers::RendezvousMessage<MockFabric>, seed: usize) {
    let read = place(&message);
    let region = message.into_region().expect("it was lent");
    assert_eq!((place(&region), region.len()), (read, 10_000));
    assert!(region[..] == pattern(seed, 10_000));
}

/// What is written is copied into the frame that goes; what has come lies where the device put it.
#[test]
fn a_byte_of_a_stream_is_copied_once_by_each_end() {
    let pair = streams(small(), StreamConfig::default());
    let (mut read, mut write) = pair.left.into_split();
    let (mut peer_read, mut peer_write) = pair.right.into_split();
    let data = pattern(1, 10_000);
    let mut places = HashSet::new();
    let before = total(&pair.fabrics);
    let used = measure(|| {
        for (to, from) in [(&mut write, &mut peer_read), (&mut peer_write, &mut read)] {
            let (mut sent, mut heard) = (0, 0);
            while heard < data.len() {
                if sent < data.len() {
                    sent += to.try_put(&data[sent..]).unwrap_or(0);
                }
                while let Ok(bytes) = from.try_fill() {
                    assert!(*bytes == data[heard..heard + bytes.len()]);
                    places.insert(place(bytes));
                    let len = bytes.len();
                    heard += len;
                    from.consume(len);
                }
            }
        }
    });
    let moved = moved(&pair.fabrics, before);
    // Two directions of eight slots; and what the set of places itself takes up is all that there is.
    assert!(places.len() <= 2 * SLOTS, "{}", places.len());
    assert!(used.bytes_max < 2000, "{used:?}");
    // Bytes are bare: what has a header are the credits.
    let frames = 2 * 10_000_u64.div_ceil(256);
    let credits = moved.sends - frames;
    assert_eq!((moved.dma_bytes, moved.dma_copies), (20_000 + credits * HEADER, moved.sends));
    assert_eq!(moved.cpu_copies, 0);
}
