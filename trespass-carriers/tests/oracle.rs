//! Two carriers, anything that applications may do with them, and what must come of it: every message that was sent, once,
//! whole and in order, and none that was withdrawn; no receiver that is not ready; no wait that never ends.

mod support;

use std::collections::VecDeque;
use std::mem;
use std::task::Poll;

use proptest::prelude::*;
use support::{Carrier, join, pattern, poll_once, timeless_tracks};
use trespass_carriers::{Message, MessageBuf, MessageCarrier, MessageConfig};
use trespass_core::{ErrorKind, Role, TransportError, TryError};
use trespass_mock::{MockConfig, MockTrack};

#[derive(Debug, Clone)]
enum Act {
    TrySend {
        len: usize,
    },
    /// A send that is polled so many times, and then dropped or forgotten.
    Send {
        len: usize,
        polls: usize,
        forget: bool,
    },
    Reserve {
        len: usize,
    },
    SendBuf,
    DropBuf,
    Flush,
    Recv {
        keep: bool,
    },
    RecvReady,
    SendReady,
    LetGo,
    Finish,
}

fn acts() -> impl Strategy<Value = Vec<(bool, Act)>> {
    let act = prop_oneof![
        20 => (0..300_usize).prop_map(|len| Act::TrySend { len }),
        15 => (0..2000_usize, 0..6_usize, prop::bool::weighted(0.2))
            .prop_map(|(len, polls, forget)| Act::Send { len, polls, forget }),
        6 => (0..300_usize).prop_map(|len| Act::Reserve { len }),
        6 => Just(Act::SendBuf),
        2 => Just(Act::DropBuf),
        10 => Just(Act::Flush),
        30 => prop::bool::weighted(0.3).prop_map(|keep| Act::Recv { keep }),
        5 => Just(Act::RecvReady),
        5 => Just(Act::SendReady),
        5 => Just(Act::LetGo),
        1 => Just(Act::Finish),
    ];
    prop::collection::vec((any::<bool>(), act), 0..200)
}

fn sizes() -> impl Strategy<Value = (MockConfig, MessageConfig)> {
    (8..20_usize, 4..20_usize, prop::sample::select(vec![128, 200, 256]), prop::sample::select(vec![0, 1000, 1 << 20]))
        .prop_map(|(recv, send, frame, spill)| {
            let track = MockConfig::default().with_recv_slots(recv).with_send_slots(send).with_max_message(frame);
            (track, MessageConfig::default().with_spill_limit(spill).with_max_message(1500))
        })
}

/// One end, and what its application knows.
struct End {
    carrier: Carrier,
    bufs: VecDeque<MessageBuf<MockTrack>>,
    kept: Vec<Message<MockTrack>>,
    sent: Vec<Vec<u8>>,
    received: Vec<Vec<u8>>,
    finished: bool,
}

impl End {
    fn new(carrier: Carrier) -> Self {
        let (bufs, kept, sent, received) = Default::default();
        Self { carrier, bufs, kept, sent, received, finished: false }
    }

    fn act(&mut self, act: Act, seed: usize) {
        match act {
            Act::TrySend { len } => {
                let data = pattern(seed, len);
                let outcome = self.carrier.try_send(&data);
                if self.went(outcome, len, self.carrier.eager_limit()) {
                    self.sent.push(data);
                }
            }
            Act::Send { len, polls, forget } => self.send(&pattern(seed, len), polls, forget),
            Act::Reserve { len } => {
                let reserved = self.carrier.try_reserve(len);
                let limit = self.carrier.eager_limit();
                let mut buf = None;
                if self.went(reserved.map(|reserved| buf = Some(reserved)), len, limit) {
                    self.bufs.extend(buf);
                }
            }
            Act::SendBuf => {
                let Some(mut buf) = self.bufs.pop_front() else { return };
                let data = pattern(seed, buf.len());
                buf.copy_from_slice(&data);
                match self.carrier.send_buf(buf) {
                    Ok(()) => self.sent.push(data),
                    Err(unsent) => assert!(self.finished && unsent.error.kind() == ErrorKind::Closed),
                }
            }
            Act::DropBuf => drop(self.bufs.pop_back()),
            Act::Flush => self.carrier.flush().unwrap(),
            Act::Recv { keep } => self.recv(keep),
            Act::RecvReady => {
                if poll_once(&mut std::future::poll_fn(|cx| self.carrier.poll_recv_ready(cx))).is_ready() {
                    let received = self.carrier.try_recv();
                    assert_ne!(received.as_ref().err(), Some(&TryError::WouldBlock), "it said that it was ready");
                    self.received.extend(received.unwrap().map(|message| message.to_vec()));
                }
            }
            Act::SendReady => {
                if poll_once(&mut std::future::poll_fn(|cx| self.carrier.poll_send_ready(cx))).is_ready() {
                    let reserved = self.carrier.try_reserve(1);
                    assert_ne!(reserved.err(), Some(TryError::WouldBlock), "it said that it was ready");
                }
            }
            Act::LetGo => self.kept.clear(),
            Act::Finish => {
                self.finished = true;
                if let Poll::Ready(outcome) = poll_once(&mut self.carrier.finish()) {
                    outcome.unwrap();
                }
            }
        }
    }

    /// Whether it went, where it may also have had to wait, or not be allowed.
    fn went(&self, outcome: Result<(), TryError<support::Error>>, len: usize, limit: usize) -> bool {
        match outcome {
            Ok(()) => {
                assert!(len <= limit && !self.finished);
                true
            }
            Err(TryError::WouldBlock) => false,
            Err(TryError::Failed(error)) if len > limit => {
                assert_eq!(error.kind(), ErrorKind::Oversize);
                false
            }
            Err(TryError::Failed(error)) => {
                assert!(self.finished && error.kind() == ErrorKind::Closed, "{error:?}");
                false
            }
        }
    }

    fn send(&mut self, data: &[u8], polls: usize, forget: bool) {
        let limit = self.carrier.max_message();
        let mut sending = self.carrier.send(data);
        let outcome = (0..polls).map(|_| poll_once(&mut sending)).find(Poll::is_ready);
        if forget {
            mem::forget(sending);
        } else {
            drop(sending);
        }
        if let Some(Poll::Ready(outcome)) = outcome {
            if self.went(outcome.map_err(TryError::Failed), data.len(), limit) {
                self.sent.push(data.to_vec());
            }
        }
    }

    fn recv(&mut self, keep: bool) {
        match self.carrier.try_recv() {
            Ok(Some(message)) => {
                self.received.push(message.to_vec());
                if keep {
                    self.kept.push(message);
                }
            }
            Ok(None) | Err(TryError::WouldBlock) => {}
            Err(TryError::Failed(error)) => panic!("{error}"),
        }
    }

    /// Lets go of everything, says that it is done, and receives to the end.
    async fn wind_up(&mut self) {
        self.kept.clear();
        self.bufs.clear();
        self.carrier.finish().await.unwrap();
        while let Some(message) = self.carrier.recv().await.unwrap() {
            self.received.push(message.to_vec());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn whatever_is_done_every_message_arrives(
        (left_track, left_config) in sizes(),
        (right_track, right_config) in sizes(),
        acts in acts(),
    ) {
        // A frame that is longer than the receives of the other end ends a track: frames are of one size.
        let right_track = right_track.with_max_message(left_track.max_message);
        let pair = timeless_tracks(left_track, right_track);
        let (left, right) = support::both(
            MessageCarrier::open(pair.left, Role::Connector, left_config),
            MessageCarrier::open(pair.right, Role::Acceptor, right_config),
        );
        let (mut left, mut right) = (End::new(left.unwrap()), End::new(right.unwrap()));
        for (seed, (at_left, act)) in acts.into_iter().enumerate() {
            if at_left { left.act(act, seed) } else { right.act(act, seed) }
        }
        let mut winding_up = Box::pin(join(left.wind_up(), right.wind_up()));
        // Each poll moves something on, or nothing ever will: wakers are another test's concern.
        let done = (0..2000).any(|_| poll_once(&mut winding_up).is_ready());
        prop_assert!(done, "a wait that never ends");
        drop(winding_up);
        prop_assert!(left.received == right.sent, "{} of {}", left.received.len(), right.sent.len());
        prop_assert!(right.received == left.sent, "{} of {}", right.received.len(), left.sent.len());
        let closed = support::both(left.carrier.close(), right.carrier.close());
        prop_assert_eq!(closed, (Ok(()), Ok(())));
        let rnr: u64 = pair.fabrics.iter().map(|fabric| fabric.counters().rnr_stalls).sum();
        prop_assert_eq!(rnr, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// An end that dies at any point: all that it had flushed is received, in order, and then the end is told.
    #[test]
    fn whatever_was_flushed_before_a_death_is_received((track, config) in sizes(), acts in acts(), goodbye: bool) {
        let pair = timeless_tracks(track.clone(), track);
        let (left, right) = support::both(
            MessageCarrier::open(pair.left, Role::Connector, config.clone()),
            MessageCarrier::open(pair.right, Role::Acceptor, config),
        );
        let (mut left, mut right) = (End::new(left.unwrap()), End::new(right.unwrap()));
        for (seed, (at_left, act)) in acts.into_iter().enumerate() {
            match act {
                // What is forgotten half-way, or reserved ahead, may wait inside.
                Act::SendBuf | Act::Finish => {}
                act if at_left => left.act(act, seed),
                act => right.act(act, seed),
            }
        }
        if left.carrier.flush().is_err() {
            return Ok(());
        }
        let End { carrier: mut dying, sent, .. } = left;
        if goodbye {
            let mut closing = Box::pin(dying.close());
            let _ = poll_once(&mut closing);
        }
        drop(dying);
        right.kept.clear();
        // A sender that finds out first does not take anything from the receiver.
        let sending = poll_once(&mut right.carrier.send(&[7; 1400]));
        let end = loop {
            match right.carrier.try_recv() {
                Ok(Some(message)) => right.received.push(message.to_vec()),
                Ok(None) => break None,
                Err(TryError::Failed(error)) => break Some(error.kind()),
                Err(TryError::WouldBlock) => prop_assert!(false, "the end of the track was not told"),
            }
        };
        prop_assert!(right.received == sent, "{} of {}, {:?}", right.received.len(), sent.len(), sending);
        prop_assert_eq!(end, (!goodbye).then_some(ErrorKind::Disconnected));
    }
}
