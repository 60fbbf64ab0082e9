//! A carrier of bytes, of a sort: each send goes as two messages, and nobody can tell. It shows how little it takes to plug
//! another carrier in, and that the harness can be asked for bytes.

use trespass_core::{ErrorKind, Role};
use trespass_mock::{MockFabric, MockNet, MockTrack};

use crate::dice::Dice;
use crate::harness::{Promise, Sending, Subject};
use crate::message::MessageEnd;

pub(crate) struct HalvesEnd(MessageEnd);

impl Subject for HalvesEnd {
    type Fabric = MockFabric;
    type Setup = <MessageEnd as Subject>::Setup;
    const PROMISE: Promise = Promise::Bytes;

    fn setup(dice: &mut Dice) -> Self::Setup {
        MessageEnd::setup(dice)
    }

    fn fabric(net: &MockNet, setup: &Self::Setup) -> (MockFabric, MockFabric) {
        MessageEnd::fabric(net, setup)
    }

    async fn open(track: MockTrack, role: Role, setup: Self::Setup) -> Result<Self, ErrorKind> {
        MessageEnd::open(track, role, setup).await.map(Self)
    }

    fn longest(&self) -> usize {
        self.0.longest()
    }

    /// It is waited for: half of it cannot be taken back.
    async fn send(&mut self, data: &[u8], sending: Sending<'_>) -> Result<bool, ErrorKind> {
        let (first, second) = data.split_at(data.len() / 2);
        let whole = || Sending { patience: None, ..sending };
        Ok(self.0.send(first, whole()).await? && self.0.send(second, whole()).await?)
    }

    async fn recv(&mut self, keep: bool) -> Result<Option<Vec<u8>>, ErrorKind> {
        self.0.recv(keep).await
    }

    fn let_go(&mut self) {
        self.0.let_go();
    }

    fn other(&mut self, data: &[u8], dice: &mut Dice) -> Result<bool, ErrorKind> {
        self.0.other(data, dice)
    }

    async fn finish(&mut self) -> Result<(), ErrorKind> {
        self.0.finish().await
    }

    async fn close(&mut self) -> Result<(), ErrorKind> {
        self.0.close().await
    }
}
