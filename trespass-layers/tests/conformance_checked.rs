//! A checked fabric keeps the contract, and a fabric that keeps the contract is not found wanting.

mod support;

use support::{Over, Wrap};
use trespass_core::Fabric;
use trespass_layers::Checked;
use trespass_mock::{MockAddr, MockFabric, MockTrack};

struct OverMock;

impl Wrap for OverMock {
    type Fabric = Checked<MockFabric>;

    fn over(mock: MockFabric) -> Checked<MockFabric> {
        Checked::over(mock)
    }

    fn below(track: &<Checked<MockFabric> as Fabric>::Track) -> &MockTrack {
        track.inner()
    }

    fn addr(mock: MockAddr) -> MockAddr {
        mock
    }
}

trespass_conformance::conformance_tests!(Over::<OverMock>::new());
