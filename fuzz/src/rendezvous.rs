//! A whole carrier that lends, against a peer that says and lends anything.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};

use trespass_carriers::{
    Finishing, MessageBuf, MessageConfig, RendezvousCarrier, RendezvousConfig, RendezvousMessage, Sending,
};
use trespass_core::{Access, MemoryFabric, Region, RemoteWindow, Role, SharedRegion, TryError, Window};
use trespass_mock::{MockFabric, MockRegion, MockSharedRegion, MockTrack, MockWindow};

use super::messages::{Carrier, converse, own_methods};
use super::raw::Error;

/// A [`RendezvousCarrier`]: the script is that of [`messages`](super::messages()).
pub fn rendezvous(script: &[u8]) {
    converse::<RendezvousCarrier<MockFabric>>(script);
}

/// Memory of `fabric` with these bytes.
pub(crate) fn region(fabric: &MockFabric, bytes: &[u8]) -> MockRegion {
    let mut region = fabric.alloc(bytes.len()).expect("so little memory");
    region.copy_from_slice(bytes);
    region
}

/// Memory that the peer lends, until this is dropped.
pub(crate) struct Lent {
    bytes: Vec<u8>,
    window: MockWindow,
    _memory: MockSharedRegion,
}

impl Lent {
    pub(crate) fn new(fabric: &MockFabric, bytes: &[u8]) -> Self {
        let memory = region(fabric, bytes).share();
        let window = memory.export(0..bytes.len(), Access::ReadOnly).expect("all of it");
        Self { bytes: bytes.to_vec(), window, _memory: memory }
    }

    pub(crate) fn window(&self) -> RemoteWindow {
        self.window.remote()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Carrier for RendezvousCarrier<MockFabric> {
    type Message = RendezvousMessage<MockFabric>;

    fn open(
        fabric: &MockFabric,
        track: MockTrack,
        role: Role,
        config: MessageConfig,
    ) -> impl Future<Output = Result<Self, Error>> {
        let config = RendezvousConfig::new(fabric.clone()).with_messages(config).with_lend_from(100);
        RendezvousCarrier::open(track, role, config)
    }

    own_methods!();

    fn lends(&self) -> bool {
        self.lends()
    }

    fn lend(&mut self, cx: &mut Context<'_>, region: MockRegion) -> Poll<Result<(), Error>> {
        let len = region.len();
        pin!(self.send_region(region, 0..len)).poll(cx)
    }

    fn poll_returned(&mut self, cx: &mut Context<'_>) -> Poll<Option<MockRegion>> {
        self.poll_returned(cx)
    }
}
