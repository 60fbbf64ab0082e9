//! The message carrier, plugged in: whole, and in halves. What it has in common with other carriers of messages is said once.

use std::collections::VecDeque;
use std::time::Duration;

use trespass_carriers::{Message, MessageBuf, MessageCarrier, MessageConfig, MessageReceiver, MessageSender};
use trespass_core::{ErrorKind, Role};
use trespass_mock::{MockConfig, MockFabric, MockNet, MockSpawner, MockTrack};

use crate::dice::Dice;
use crate::end::{self, Actor, Known};
use crate::halves::{Halved, halved};
use crate::subject::{Promise, Subject, kind};

/// Sending, for whoever has a `carrier` of messages, and `bufs` that are reserved ahead.
macro_rules! sends_messages {
    ($end:ty) => {
        impl crate::subject::Sends for $end {
            fn longest(&self) -> usize {
                self.carrier.max_message()
            }

            async fn send(
                &mut self,
                data: &[u8],
                sending: crate::subject::Sending<'_>,
                _: &mut Dice,
            ) -> Result<Option<usize>, ErrorKind> {
                if sending.patience.is_none() {
                    self.be_fair();
                }
                match sending.wait(self.carrier.send(data)).await {
                    Some(sent) => sent.map(|()| Some(data.len())).map_err(kind),
                    None => Ok(None),
                }
            }

            /// What polling threads do: reserve ahead, send what was reserved, try, flush.
            fn other(&mut self, data: &[u8], dice: &mut Dice) -> Result<Option<usize>, ErrorKind> {
                let eager = self.carrier.eager_limit().min(100);
                let data = &data[..data.len().min(eager)];
                match dice.below(6) {
                    0 | 1 => match self.carrier.try_send(data) {
                        Ok(()) => Ok(Some(data.len())),
                        Err(trespass_core::TryError::WouldBlock) => Ok(None),
                        Err(trespass_core::TryError::Failed(error)) => Err(kind(error)),
                    },
                    2 => self.carrier.flush().map(|()| None).map_err(kind),
                    3 => match self.carrier.try_reserve(eager) {
                        Ok(buf) => {
                            self.bufs.push_back(buf);
                            Ok(None)
                        }
                        Err(trespass_core::TryError::WouldBlock) => Ok(None),
                        Err(trespass_core::TryError::Failed(error)) => Err(kind(error)),
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
                self.say_last().await
            }
        }
    };
}
pub(crate) use sends_messages;

/// Receiving, for whoever has a `carrier` of messages, and those that are `kept`.
macro_rules! receives_messages {
    ($end:ty) => {
        impl crate::subject::Receives for $end {
            async fn recv(&mut self, keep: bool, _: &mut Dice) -> Result<crate::subject::Heard, ErrorKind> {
                if !keep {
                    self.be_fair();
                }
                let Some(message) = self.carrier.recv().await.map_err(kind)? else {
                    return Ok(crate::subject::Heard::Goodbye);
                };
                let copy = message.to_vec();
                if keep {
                    self.kept.push_back(message);
                }
                Ok(crate::subject::Heard::Data(copy))
            }

            fn let_go(&mut self) {
                self.kept.clear();
            }
        }
    };
}

pub(crate) struct MessageEnd {
    carrier: MessageCarrier<MockTrack>,
    bufs: VecDeque<MessageBuf<MockTrack>>,
    kept: VecDeque<Message<MockTrack>>,
    may_keep: usize,
}

impl MessageEnd {
    /// Keeps no more than an application may that is going to wait without end: else both ends may wait for one another.
    fn be_fair(&mut self) {
        self.bufs.truncate(1);
        self.kept.truncate(self.may_keep);
    }

    async fn say_last(&mut self) -> Result<(), ErrorKind> {
        self.carrier.finish().await.map_err(kind)
    }
}

sends_messages!(MessageEnd);
receives_messages!(MessageEnd);

/// Tracks with few slots and short messages.
pub(crate) fn small_tracks(dice: &mut Dice) -> MockConfig {
    MockConfig::default()
        .with_recv_slots(8 + dice.index(12))
        .with_send_slots(4 + dice.index(12))
        .with_max_message([128, 200, 256][dice.index(3)])
}

/// How often to beat: mostly never, since a beat wakes whoever is forgotten, and hides it; else so often that some are sent
/// before all is said, and not so often that those who wait for a deadline of seconds do nothing else.
pub(crate) fn beats(dice: &mut Dice) -> Option<Duration> {
    dice.one_in(8).then(|| Duration::from_micros(1000 + dice.below(20_000)))
}

/// How many messages may be kept for as long as one likes.
pub(crate) fn may_keep(config: &MockConfig) -> usize {
    (config.recv_slots * 3 / 4).saturating_sub(5)
}

impl Subject for MessageEnd {
    type Fabric = MockFabric;
    type Setup = (MockConfig, MessageConfig);
    const PROMISE: Promise = Promise::Messages;
    const SEEN: [&'static str; 4] = ["withdrawn half-way", "spilled", "in segments", "without credits"];

    fn setup(dice: &mut Dice) -> Self::Setup {
        let config = MessageConfig::default().with_keepalive(beats(dice));
        (small_tracks(dice), config.with_max_message(1500).with_spill_limit(1 << 20))
    }

    fn fabric(net: &MockNet, (track, _): &Self::Setup) -> (MockFabric, MockFabric) {
        let fabric = net.fabric(track.clone()).expect("a good configuration");
        (fabric.clone(), fabric)
    }

    async fn open(track: MockTrack, role: Role, _: MockFabric, setup: Self::Setup) -> Result<Self, ErrorKind> {
        let (track_config, config) = setup;
        let carrier = MessageCarrier::open(track, role, config).await.map_err(kind)?;
        Ok(Self { carrier, bufs: VecDeque::new(), kept: VecDeque::new(), may_keep: may_keep(&track_config) })
    }

    async fn close(&mut self) -> Result<(), ErrorKind> {
        self.bufs.clear();
        self.carrier.close().await.map_err(kind)
    }

    fn seen(&self) -> [u64; 4] {
        let stats = self.carrier.stats();
        [stats.messages_withdrawn, stats.spilled_messages, stats.segments_received, stats.stalls]
    }

    async fn act(self, mut actor: Actor, operations: u64, spawner: MockSpawner) -> Known {
        match actor.dice.one_in(3) {
            true => halved(self, actor, operations, spawner).await,
            false => end::whole(self, actor, operations).await,
        }
    }
}

/// The half that sends.
pub(crate) struct MessageSends {
    carrier: MessageSender<MockTrack>,
    bufs: VecDeque<MessageBuf<MockTrack>>,
}

impl MessageSends {
    fn be_fair(&mut self) {
        self.bufs.truncate(1);
    }

    async fn say_last(&mut self) -> Result<(), ErrorKind> {
        self.carrier.finish().await.map_err(kind)
    }
}

/// The half that receives.
pub(crate) struct MessageReceives {
    carrier: MessageReceiver<MockTrack>,
    kept: VecDeque<Message<MockTrack>>,
    may_keep: usize,
}

impl MessageReceives {
    fn be_fair(&mut self) {
        self.kept.truncate(self.may_keep);
    }
}

sends_messages!(MessageSends);
receives_messages!(MessageReceives);

impl Halved for MessageEnd {
    type Sender = MessageSends;
    type Receiver = MessageReceives;
    const DROP_ENDS: bool = false;
    const DISCARDS: bool = true;

    fn split(self) -> (MessageSends, MessageReceives) {
        let Self { carrier, bufs, kept, may_keep } = self;
        let (sender, receiver) = carrier.split();
        (MessageSends { carrier: sender, bufs }, MessageReceives { carrier: receiver, kept, may_keep })
    }

    async fn close_both(sender: MessageSends, receiver: MessageReceives, actor: &mut Actor) {
        let (MessageSends { carrier, bufs }, MessageReceives { carrier: other, kept, may_keep }) = (sender, receiver);
        let carrier = other.reunite(carrier).expect("two halves of one");
        actor.close(&mut Self { carrier, bufs, kept, may_keep }).await;
    }

    async fn close_half(mut sender: MessageSends) -> Option<Result<(), ErrorKind>> {
        sender.bufs.clear();
        Some(sender.carrier.close().await.map_err(kind))
    }
}
