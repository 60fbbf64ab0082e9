//! The datagram carrier, plugged in, over a network that loses, duplicates, reorders and corrupts: several peers of one
//! listener, whole and in halves.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use trespass_carriers::{
    CarrierError, DatagramCarrier, DatagramConfig, DatagramRecvHalf, DatagramSendHalf, DatagramStats, Message,
    MessageBuf, Phase,
};
use trespass_core::{ErrorKind, Role, Timer};
use trespass_mock::{MockConfig, MockSpawner};
use trespass_mock::{MockDatagramConfig, MockDatagramTrack, MockDatagrams, MockFabric, MockNet, MockTimer};

use crate::dice::Dice;
use crate::end::{self, Actor, Known};
use crate::halves::{Halved, halved};
use crate::message::sends_messages;
use crate::polls::polls;
use crate::subject::{Heard, Promise, Receives, Subject, kind};

/// After how long nothing will come any more: longer than any end does something else.
const SILENCE: Duration = Duration::from_millis(20);

/// How a run is set up.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    track: MockDatagramConfig,
    carrier: DatagramConfig,
    pairs: usize,
}

pub(crate) struct DatagramEnd {
    carrier: DatagramCarrier<MockDatagramTrack>,
    bufs: VecDeque<MessageBuf<MockDatagramTrack>>,
    kept: VecDeque<Message<MockDatagramTrack>>,
    timer: MockTimer,
}

impl DatagramEnd {
    /// Whoever waits holds nothing of what it waits for.
    fn be_fair(&mut self) {
        self.bufs.truncate(1);
    }

    /// There is no half of a goodbye.
    async fn say_last(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

sends_messages!(DatagramEnd);

/// Receiving, for whoever has a `carrier`, those that are `kept`, and a `timer`.
macro_rules! receives_datagrams {
    ($end:ty) => {
        impl Receives for $end {
            async fn recv(&mut self, keep: bool, _: &mut Dice) -> Result<Heard, ErrorKind> {
                let message = match within_silence(self.carrier.recv(), &self.timer).await {
                    Some(Ok(Some(message))) => message,
                    Some(Ok(None)) => return Ok(Heard::Goodbye),
                    None | Some(Err(CarrierError::TimedOut(Phase::Idle))) => return Ok(Heard::Silence),
                    Some(Err(error)) => return Err(kind(error)),
                };
                let copy = message.to_vec();
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

async fn within_silence<F: Future>(future: F, timer: &MockTimer) -> Option<F::Output> {
    let (mut future, mut alarm) = (pin!(future), timer.sleep(SILENCE));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Pin::new(&mut alarm).poll(cx).map(|()| None),
    })
    .await
}

receives_datagrams!(DatagramEnd);

impl Subject for DatagramEnd {
    type Fabric = MockDatagrams;
    type Setup = Setup;
    const PROMISE: Promise = Promise::Some;
    const SEEN: [&'static str; 4] = ["duplicates", "given up", "garbage", "in segments"];

    fn setup(dice: &mut Dice) -> Setup {
        let micros = |dice: &mut Dice, least, more| Duration::from_micros(least + dice.below(more));
        let mut track = MockDatagramConfig::default()
            .with_mtu([128, 200, 256][dice.index(3)])
            .with_slots(2 + dice.index(12), 8 + dice.index(24))
            .with_seed(dice.roll());
        if !dice.one_in(4) {
            track = track.with_loss(dice.below(150) as u16).with_duplication(dice.below(300) as u16);
            track = track.with_reordering(dice.below(300) as u16);
            // What the network makes of a datagram nobody can tell from what was sent: the rest has to hold all the same.
            track = track.with_corruption(if dice.one_in(4) { dice.below(40) as u16 } else { 0 });
        }
        let mut carrier = DatagramConfig::default()
            .with_max_message(1500)
            .with_assemblies(1 + dice.index(4), micros(dice, 1000, 5000))
            .with_pool_limit(if dice.one_in(2) { 0 } else { 8192 })
            .with_open_retry(micros(dice, 50, 500))
            .with_open_timeout(Duration::from_millis(50));
        if dice.one_in(3) {
            carrier = carrier.with_idle_timeout(Some(micros(dice, 5000, 5000)));
        }
        if dice.one_in(3) {
            carrier = carrier.with_keepalive(Some(micros(dice, 100, 2000)));
        }
        Setup { track, carrier, pairs: 1 + dice.index(3) }
    }

    fn fabric(net: &MockNet, setup: &Setup) -> (MockDatagrams, MockFabric) {
        let fabric = net.fabric(MockConfig::default()).expect("a good configuration");
        (fabric.datagrams(setup.track.clone()).expect("a good configuration"), fabric)
    }

    async fn open(
        track: MockDatagramTrack,
        role: Role,
        fabric: MockDatagrams,
        setup: Setup,
    ) -> Result<Self, ErrorKind> {
        let timer = trespass_core::Fabric::timer(&fabric);
        let carrier = DatagramCarrier::open(track, role, setup.carrier).await.map_err(kind)?;
        Ok(Self { carrier, bufs: VecDeque::new(), kept: VecDeque::new(), timer })
    }

    async fn close(&mut self) -> Result<(), ErrorKind> {
        self.bufs.clear();
        self.carrier.close().await.map_err(kind)
    }

    fn pairs(setup: &Setup) -> usize {
        setup.pairs
    }

    fn corrupted(fabric: &MockDatagrams) -> u64 {
        fabric.faults().corrupted
    }

    fn is_perfect(setup: &Setup) -> bool {
        let MockDatagramConfig { loss, duplication, reordering, corruption, .. } = setup.track;
        loss + duplication + reordering + corruption == 0
    }

    fn seen(&self) -> [u64; 4] {
        let DatagramStats { duplicates, given_up, garbage, segments_received, .. } = self.carrier.stats();
        [duplicates, given_up, garbage, segments_received]
    }

    async fn act(self, mut actor: Actor, operations: u64, spawner: MockSpawner) -> Known {
        match actor.dice.one_in(3) {
            true => halved(self, actor, operations, spawner).await,
            false => end::whole(self, actor, operations).await,
        }
    }
}

/// The half that sends.
pub(crate) struct DatagramSends {
    carrier: DatagramSendHalf<MockDatagramTrack>,
    bufs: VecDeque<MessageBuf<MockDatagramTrack>>,
    timer: MockTimer,
}

impl DatagramSends {
    fn be_fair(&mut self) {
        self.bufs.truncate(1);
    }

    /// Nothing is said: what is queued goes out, and beats for a while.
    async fn say_last(&mut self) -> Result<(), ErrorKind> {
        let flushed = self.carrier.flush().map_err(kind);
        polls(self.carrier.keepalive(), Some(10), &self.timer).await;
        flushed
    }
}

/// The half that receives.
pub(crate) struct DatagramReceives {
    carrier: DatagramRecvHalf<MockDatagramTrack>,
    kept: VecDeque<Message<MockDatagramTrack>>,
    timer: MockTimer,
}

sends_messages!(DatagramSends);
receives_datagrams!(DatagramReceives);

impl Halved for DatagramEnd {
    type Sender = DatagramSends;
    type Receiver = DatagramReceives;
    const DROP_ENDS: bool = true;
    const DISCARDS: bool = true;

    fn split(self) -> (DatagramSends, DatagramReceives) {
        let Self { carrier, bufs, kept, timer } = self;
        let (sender, receiver) = carrier.split();
        let sends = DatagramSends { carrier: sender, bufs, timer: timer.clone() };
        (sends, DatagramReceives { carrier: receiver, kept, timer })
    }

    async fn close_both(sender: DatagramSends, receiver: DatagramReceives, actor: &mut Actor) {
        let DatagramStats { duplicates, given_up, garbage, segments_received, .. } = receiver.carrier.stats();
        actor.known.seen = [duplicates, given_up, garbage, segments_received];
        actor.known.closed = Self::close_half(sender).await;
        actor.known.finished = true;
    }

    async fn close_half(mut sender: DatagramSends) -> Option<Result<(), ErrorKind>> {
        sender.bufs.clear();
        Some(sender.carrier.close().await.map_err(kind))
    }
}
