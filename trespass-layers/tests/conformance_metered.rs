//! A fabric that counts keeps the contract.

mod support;

use support::{Over, Wrap};
use trespass_core::Fabric;
use trespass_layers::Metered;
use trespass_mock::{MockAddr, MockFabric, MockTrack};

struct OverMock;

impl Wrap for OverMock {
    type Fabric = Metered<MockFabric>;

    fn over(mock: MockFabric) -> Metered<MockFabric> {
        Metered::over(mock)
    }

    fn below(track: &<Metered<MockFabric> as Fabric>::Track) -> &MockTrack {
        track.inner()
    }

    fn addr(mock: MockAddr) -> MockAddr {
        mock
    }
}

trespass_conformance::conformance_tests!(Over::<OverMock>::new());
