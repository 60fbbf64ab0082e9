//! The rendezvous carrier, plugged in: messages copied, in segments and lent, by turns, and memory that comes back once.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use trespass_carriers::{MessageBuf, MessageConfig, RendezvousCarrier, RendezvousConfig, RendezvousMessage};
use trespass_core::{ErrorKind, Role, TryError};
use trespass_mock::{MockConfig, MockFabric, MockNet, MockRegion, MockTrack};

use crate::dice::Dice;
use crate::message::{beats, may_keep, small_tracks};
use crate::subject::{Heard, Promise, Receives, Sending, Sends, Subject, kind};

pub(crate) struct RendezvousEnd {
    carrier: RendezvousCarrier<MockFabric>,
    bufs: VecDeque<MessageBuf<MockTrack>>,
    kept: VecDeque<RendezvousMessage<MockFabric>>,
    may_keep: usize,
    /// Memory that came back, to be sent again.
    at_hand: Vec<MockRegion>,
    /// What was in the memory that was given away and has to come back.
    away: Vec<Vec<u8>>,
    wrong: Option<String>,
    lent: u64,
    sent_on: u64,
    back: u64,
    in_place: u64,
}

impl RendezvousEnd {
    /// As of messages; a message that is being read takes a send slot, one that was read no receive slot.
    fn be_fair(&mut self) {
        self.bufs.clear();
        self.kept.truncate(self.may_keep);
    }

    /// Registered memory with room for `len` bytes: new, used before, or what another message was read into.
    fn region(&mut self, len: usize, dice: &mut Dice) -> Result<MockRegion, ErrorKind> {
        let used = match dice.below(3) {
            0 => self.at_hand.pop(),
            1 => self.kept.pop_front().and_then(|message| message.into_region().ok()).inspect(|_| self.sent_on += 1),
            _ => None,
        };
        match used {
            Some(region) if region.len() >= len => Ok(region),
            _ => self.carrier.alloc(len + 1 + dice.index(20)).map_err(kind),
        }
    }

    /// Takes back what has come back: as it was, and each once.
    fn take_back(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(region)) = self.carrier.poll_returned(&mut cx) {
            self.came_back(region);
        }
    }

    fn came_back(&mut self, region: MockRegion) {
        match self.away.iter().position(|bytes| **bytes == *region) {
            Some(at) => _ = self.away.remove(at),
            None => self.wrong = Some("memory came back that was not given away, or not as it was".to_owned()),
        }
        self.back += 1;
        self.at_hand.push(region);
    }
}

impl Sends for RendezvousEnd {
    fn longest(&self) -> usize {
        self.carrier.max_message()
    }

    async fn send(&mut self, data: &[u8], sending: Sending<'_>, dice: &mut Dice) -> Result<Option<usize>, ErrorKind> {
        if sending.patience.is_none() {
            self.be_fair();
        }
        let sent = match dice.below(3) {
            0 => sending.wait(self.carrier.send(data)).await,
            _ => {
                let mut region = self.region(data.len(), dice)?;
                let start = dice.index(region.len() - data.len() + 1);
                region[start..start + data.len()].copy_from_slice(data);
                self.away.push(region.to_vec());
                // One that is withdrawn gives its memory back too.
                sending.wait(self.carrier.send_region(region, start..start + data.len())).await
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

impl Receives for RendezvousEnd {
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
            at_hand: Vec::new(),
            away: Vec::new(),
            wrong: None,
            lent: 0,
            sent_on: 0,
            back: 0,
            in_place: 0,
        })
    }

    /// All that was given away comes back, whatever the end was.
    async fn close(&mut self) -> Result<(), ErrorKind> {
        self.bufs.clear();
        let closed = self.carrier.close().await.map_err(kind);
        self.take_back();
        if !self.away.is_empty() {
            self.wrong = Some(format!("{} regions that were given away did not come back", self.away.len()));
        }
        closed
    }

    fn seen(&self) -> [u64; 4] {
        [self.lent, self.in_place, self.sent_on, self.back]
    }

    fn wrong(&mut self) -> Option<String> {
        self.wrong.take()
    }
}
