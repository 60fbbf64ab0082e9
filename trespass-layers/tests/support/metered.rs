//! Metered mocks, joined.

use futures_executor::block_on;
use trespass_core::{Fabric, Incoming, ListenerExt, SendSide};
use trespass_layers::Metered;
use trespass_mock::{MockAddr, MockConfig, MockFabric};

use super::mocks;

pub(crate) type Fabrics = [Metered<MockFabric>; 2];
pub(crate) type Meter = <Metered<MockFabric> as Fabric>::Track;

pub(crate) fn fabrics() -> Fabrics {
    mocks(MockConfig::default()).map(|mock| Metered::named(mock, "tested"))
}

pub(crate) fn join([server, client]: &Fabrics, addr: &MockAddr) -> (Meter, Meter) {
    let mut listener = server.listen(addr).expect("a listener");
    let connecting = client.connect(addr);
    block_on(async {
        let ours = listener.incoming().await.expect("a request").accept().await.expect("an accept");
        (ours, connecting.await.expect("a connect"))
    })
}

pub(crate) fn send(track: &mut impl SendSide, len: usize) -> bool {
    let Ok(buf) = track.try_reserve(len) else { return false };
    track.send(buf).is_ok()
}
