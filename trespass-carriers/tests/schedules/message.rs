//! The message carrier, plugged in.

use std::collections::VecDeque;

use trespass_carriers::{CarrierError, Message, MessageBuf, MessageCarrier, MessageConfig};
use trespass_core::{ErrorKind, Role, TransportError, TryError};
use trespass_mock::{MockConfig, MockError, MockFabric, MockNet, MockTrack};

use crate::dice::Dice;
use crate::harness::{Promise, Sending, Subject};

pub(crate) struct MessageEnd {
    carrier: MessageCarrier<MockTrack>,
    kept: VecDeque<Message<MockTrack>>,
    bufs: VecDeque<MessageBuf<MockTrack>>,
    /// How many may be kept for as long as one likes.
    may_keep: usize,
}

impl MessageEnd {
    /// Keeps no more than an application may that is going to wait without end: else both ends may wait for one another.
    fn be_fair(&mut self) {
        self.bufs.truncate(1);
        self.kept.truncate(self.may_keep);
    }
}

fn kind(error: CarrierError<MockError>) -> ErrorKind {
    error.kind()
}

impl Subject for MessageEnd {
    type Fabric = MockFabric;
    type Setup = (MockConfig, MessageConfig);
    const PROMISE: Promise = Promise::Messages;

    fn setup(dice: &mut Dice) -> Self::Setup {
        let track = MockConfig::default()
            .with_recv_slots(8 + dice.index(12))
            .with_send_slots(4 + dice.index(12))
            .with_max_message([128, 200, 256][dice.index(3)]);
        // Beats would wake whoever is forgotten, and hide it.
        let config = MessageConfig::default().with_keepalive(None);
        (track, config.with_max_message(1500).with_spill_limit(1 << 20))
    }

    fn fabric(net: &MockNet, (track, _): &Self::Setup) -> (MockFabric, MockFabric) {
        let fabric = net.fabric(track.clone()).expect("a good configuration");
        (fabric.clone(), fabric)
    }

    async fn open(track: MockTrack, role: Role, (track_config, config): Self::Setup) -> Result<Self, ErrorKind> {
        let carrier = MessageCarrier::open(track, role, config).await.map_err(kind)?;
        let may_keep = (track_config.recv_slots * 3 / 4).saturating_sub(5);
        Ok(Self { carrier, kept: VecDeque::new(), bufs: VecDeque::new(), may_keep })
    }

    fn longest(&self) -> usize {
        self.carrier.max_message()
    }

    async fn send(&mut self, data: &[u8], sending: Sending<'_>) -> Result<bool, ErrorKind> {
        if sending.patience.is_none() {
            self.be_fair();
        }
        match sending.wait(self.carrier.send(data)).await {
            Some(sent) => sent.map(|()| true).map_err(kind),
            None => Ok(false),
        }
    }

    async fn recv(&mut self, keep: bool) -> Result<Option<Vec<u8>>, ErrorKind> {
        if !keep {
            self.be_fair();
        }
        let Some(message) = self.carrier.recv().await.map_err(kind)? else { return Ok(None) };
        let copy = message.to_vec();
        if keep {
            self.kept.push_back(message);
        }
        Ok(Some(copy))
    }

    fn let_go(&mut self) {
        self.kept.clear();
        self.bufs.clear();
    }

    /// What polling threads do: reserve ahead, send what was reserved, try, flush.
    fn other(&mut self, data: &[u8], dice: &mut Dice) -> Result<bool, ErrorKind> {
        let none_yet = |tried: Result<(), TryError<_>>| match tried {
            Ok(()) => Ok(true),
            Err(TryError::WouldBlock) => Ok(false),
            Err(TryError::Failed(error)) => Err(kind(error)),
        };
        match dice.below(6) {
            0 | 1 => none_yet(self.carrier.try_send(data)),
            2 => self.carrier.flush().map(|()| false).map_err(kind),
            3 => {
                let mut room = None;
                none_yet(self.carrier.try_reserve(100).map(|buf| room = Some(buf)))?;
                self.bufs.extend(room);
                Ok(false)
            }
            _ => {
                let Some(mut buf) = self.bufs.pop_front() else { return Ok(false) };
                buf[..data.len()].copy_from_slice(data);
                buf.truncate(data.len());
                self.carrier.send_buf(buf).map(|()| true).map_err(|unsent| kind(unsent.error))
            }
        }
    }

    async fn finish(&mut self) -> Result<(), ErrorKind> {
        self.bufs.clear();
        self.carrier.finish().await.map_err(kind)
    }

    async fn close(&mut self) -> Result<(), ErrorKind> {
        self.carrier.close().await.map_err(kind)
    }
}
