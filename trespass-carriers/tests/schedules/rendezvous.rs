//! The rendezvous carrier, plugged in: messages copied, in segments and lent, by turns, and memory that comes back once.

use std::collections::VecDeque;
use std::ops::Range;
use std::task::{Context, Poll, Waker};

use trespass_carriers::{
    MessageBuf, MessageConfig, RendezvousCarrier, RendezvousConfig, RendezvousMessage, RendezvousReceiver,
    RendezvousSender,
};
use trespass_core::{ErrorKind, Role, TryError};
use trespass_mock::{MockConfig, MockFabric, MockNet, MockRegion, MockSpawner, MockTrack};

use crate::dice::Dice;
use crate::end::{self, Actor, Known};
use crate::halves::{Halved, halved};
use crate::message::{beats, may_keep, small_tracks};
use crate::subject::{Heard, Promise, Receives, Sending, Sends, Subject, kind};

/// Memory of one end: what is at hand, and what was given away.
#[derive(Default)]
struct Memory {
    /// What came back, to be sent again.
    at_hand: Vec<MockRegion>,
    /// What was in the memory that was given away and has to come back.
    away: Vec<Vec<u8>>,
    back: u64,
    wrong: Option<String>,
}

impl Memory {
    /// A region with `data` in it, somewhere, and where: `used` if it is long enough, else a new one.
    fn filled(
        &mut self,
        used: Option<MockRegion>,
        data: &[u8],
        dice: &mut Dice,
        alloc: impl FnOnce(usize) -> Result<MockRegion, ErrorKind>,
    ) -> Result<(MockRegion, Range<usize>), ErrorKind> {
        let mut region = match used {
            Some(region) if region.len() >= data.len() => region,
            _ => alloc(data.len() + 1 + dice.index(20))?,
        };
        let start = dice.index(region.len() - data.len() + 1);
        region[start..start + data.len()].copy_from_slice(data);
        self.away.push(region.to_vec());
        Ok((region, start..start + data.len()))
    }

    /// What comes back does so as it was, and once.
    fn came_back(&mut self, region: MockRegion) {
        match self.away.iter().position(|bytes| **bytes == *region) {
            Some(at) => _ = self.away.remove(at),
            None => self.wrong = Some("memory came back that was not given away, or not as it was".to_owned()),
        }
        self.back += 1;
        self.at_hand.push(region);
    }

    /// All of it has to be back.
    fn is_back(&mut self) {
        if !self.away.is_empty() {
            self.wrong = Some(format!("{} regions that were given away did not come back", self.away.len()));
        }
    }
}

/// Sending, for whoever has a `carrier` that lends, `memory`, and `bufs` that are reserved ahead.
macro_rules! lends_messages {
    ($end:ty) => {
        impl $end {
            /// Takes back what has come back.
            fn take_back(&mut self) {
                let mut cx = Context::from_waker(Waker::noop());
                while let Poll::Ready(Some(region)) = self.carrier.poll_returned(&mut cx) {
                    self.memory.came_back(region);
                }
            }
        }

        impl Sends for $end {
            fn longest(&self) -> usize {
                self.carrier.max_message()
            }

            async fn send(
                &mut self,
                data: &[u8],
                sending: Sending<'_>,
                dice: &mut Dice,
            ) -> Result<Option<usize>, ErrorKind> {
                if sending.patience.is_none() {
                    self.be_fair();
                }
                let sent = match dice.below(3) {
                    0 => sending.wait(self.carrier.send(data)).await,
                    _ => {
                        let used = self.used(dice);
                        let alloc = |len| self.carrier.alloc(len).map_err(kind);
                        let (region, range) = self.memory.filled(used, data, dice, alloc)?;
                        // One that is withdrawn gives its memory back too.
                        sending.wait(self.carrier.send_region(region, range)).await
                    }
                };
                self.take_back();
                match sent {
                    Some(sent) => sent.map(|()| Some(data.len())).map_err(kind),
                    None => Ok(None),
                }
            }

            fn other(&mut self, data: &[u8], dice: &mut Dice) -> Result<Option<usize>, ErrorKind> {
                match dice.below(6) {
                    0 | 1 => {
                        self.take_back();
                        Ok(None)
                    }
                    2 => self.carrier.flush().map(|()| None).map_err(kind),
                    3 => match self.carrier.try_reserve(100) {
                        Ok(buf) => {
                            self.bufs.push_back(buf);
                            Ok(None)
                        }
                        Err(TryError::WouldBlock) => Ok(None),
                        Err(TryError::Failed(error)) => Err(kind(error)),
                    },
                    _ => {
                        let Some(mut buf) = self.bufs.pop_front() else { return Ok(None) };
                        buf[..data.len()].copy_from_slice(data);
                        buf.truncate(data.len());
                        self.carrier.send_buf(buf).map(|()| Some(data.len())).map_err(|unsent| kind(unsent.error))
                    }
                }
            }

            async fn finish(&mut self) -> Result<(), ErrorKind> {
                self.bufs.clear();
                self.carrier.finish().await.map_err(kind)
            }
        }
    };
}

/// Receiving, for whoever has a `carrier` that lends, messages that are `kept`, and counts of them.
macro_rules! reads_messages {
    ($end:ty) => {
        impl Receives for $end {
            async fn recv(&mut self, keep: bool, _: &mut Dice) -> Result<Heard, ErrorKind> {
                if !keep {
                    self.be_fair();
                }
                let Some(message) = self.carrier.recv().await.map_err(kind)? else { return Ok(Heard::Goodbye) };
                let copy = message.to_vec();
                self.lent += u64::from(message.was_lent());
                self.in_place += u64::from(message.is_direct());
                if keep {
                    self.kept.push_back(message);
                }
                Ok(Heard::Data(copy))
            }

            fn let_go(&mut self) {
                self.kept.clear();
            }
        }
    };
}

pub(crate) struct RendezvousEnd {
    carrier: RendezvousCarrier<MockFabric>,
    bufs: VecDeque<MessageBuf<MockTrack>>,
    kept: VecDeque<RendezvousMessage<MockFabric>>,
    may_keep: usize,
    memory: Memory,
    lent: u64,
    sent_on: u64,
    in_place: u64,
}

impl RendezvousEnd {
    /// As of messages; those that are being read take send slots, one that was read no receive slot.
    fn be_fair(&mut self) {
        self.bufs.clear();
        self.kept.truncate(self.may_keep);
    }

    /// Memory that was used before, or into which another message was read.
    fn used(&mut self, dice: &mut Dice) -> Option<MockRegion> {
        match dice.below(3) {
            0 => self.memory.at_hand.pop(),
            1 => self.kept.pop_front().and_then(|message| message.into_region().ok()).inspect(|_| self.sent_on += 1),
            _ => None,
        }
    }
}

lends_messages!(RendezvousEnd);
reads_messages!(RendezvousEnd);

impl Subject for RendezvousEnd {
    type Fabric = MockFabric;
    type Setup = (MockConfig, MessageConfig, usize);
    const PROMISE: Promise = Promise::Messages;
    const SEEN: [&'static str; 4] = ["lent", "in place", "sent on from where they were read", "regions back"];

    fn setup(dice: &mut Dice) -> Self::Setup {
        let messages =
            MessageConfig::default().with_keepalive(beats(dice)).with_max_message(1500).with_spill_limit(1 << 20);
        let track = small_tracks(dice).with_fetch_slots(1 + dice.index(3));
        (track, messages, [1, 60, 300, 700][dice.index(4)])
    }

    fn fabric(net: &MockNet, (track, _, _): &Self::Setup) -> (MockFabric, MockFabric) {
        let fabric = net.fabric(track.clone()).expect("a good configuration");
        (fabric.clone(), fabric)
    }

    async fn open(
        track: MockTrack,
        role: Role,
        fabric: MockFabric,
        (track_config, messages, lend_from): Self::Setup,
    ) -> Result<Self, ErrorKind> {
        let config = RendezvousConfig::new(fabric).with_messages(messages).with_lend_from(lend_from);
        let carrier = RendezvousCarrier::open(track, role, config).await.map_err(kind)?;
        Ok(Self {
            carrier,
            bufs: VecDeque::new(),
            kept: VecDeque::new(),
            may_keep: may_keep(&track_config),
            memory: Memory::default(),
            lent: 0,
            sent_on: 0,
            in_place: 0,
        })
    }

    /// All that was given away comes back, whatever the end was.
    async fn close(&mut self) -> Result<(), ErrorKind> {
        self.bufs.clear();
        let closed = self.carrier.close().await.map_err(kind);
        self.take_back();
        self.memory.is_back();
        closed
    }

    fn seen(&self) -> [u64; 4] {
        [self.lent, self.in_place, self.sent_on, self.memory.back]
    }

    fn wrong(&mut self) -> Option<String> {
        self.memory.wrong.take()
    }

    async fn act(self, mut actor: Actor, operations: u64, spawner: MockSpawner) -> Known {
        match actor.dice.one_in(3) {
            true => halved(self, actor, operations, spawner).await,
            false => end::whole(self, actor, operations).await,
        }
    }
}

/// The half that sends.
pub(crate) struct RendezvousSends {
    carrier: RendezvousSender<MockFabric>,
    bufs: VecDeque<MessageBuf<MockTrack>>,
    memory: Memory,
}

impl RendezvousSends {
    fn be_fair(&mut self) {
        self.bufs.clear();
    }

    fn used(&mut self, dice: &mut Dice) -> Option<MockRegion> {
        if dice.one_in(2) { self.memory.at_hand.pop() } else { None }
    }
}

/// The half that receives.
pub(crate) struct RendezvousReceives {
    carrier: RendezvousReceiver<MockFabric>,
    kept: VecDeque<RendezvousMessage<MockFabric>>,
    may_keep: usize,
    lent: u64,
    sent_on: u64,
    in_place: u64,
}

impl RendezvousReceives {
    fn be_fair(&mut self) {
        self.kept.truncate(self.may_keep);
    }
}

lends_messages!(RendezvousSends);
reads_messages!(RendezvousReceives);

impl Halved for RendezvousEnd {
    type Sender = RendezvousSends;
    type Receiver = RendezvousReceives;
    const DROP_ENDS: bool = false;
    const DISCARDS: bool = true;

    fn split(self) -> (RendezvousSends, RendezvousReceives) {
        let Self { carrier, bufs, kept, may_keep, memory, lent, sent_on, in_place } = self;
        let (sender, receiver) = carrier.split();
        let sends = RendezvousSends { carrier: sender, bufs, memory };
        (sends, RendezvousReceives { carrier: receiver, kept, may_keep, lent, sent_on, in_place })
    }

    async fn close_both(sender: RendezvousSends, receiver: RendezvousReceives, actor: &mut Actor) {
        let RendezvousSends { carrier, bufs, memory } = sender;
        let RendezvousReceives { carrier: other, kept, may_keep, lent, sent_on, in_place } = receiver;
        let carrier = other.reunite(carrier).expect("two halves of one");
        actor.close(&mut Self { carrier, bufs, kept, may_keep, memory, lent, sent_on, in_place }).await;
    }

    async fn close_half(mut sender: RendezvousSends) -> Option<Result<(), ErrorKind>> {
        sender.bufs.clear();
        let closed = sender.carrier.close().await.map_err(kind);
        sender.take_back();
        sender.memory.is_back();
        assert_eq!(sender.memory.wrong, None);
        Some(closed)
    }
}
