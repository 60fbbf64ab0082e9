//! A fabric whose tracks look before they sleep keeps the contract.

mod support;

use support::{Over, Wrap};
use trespass_core::{Fabric, Spin};
use trespass_layers::Spun;
use trespass_mock::{MockAddr, MockFabric, MockTrack};

struct OverMock;

impl Wrap for OverMock {
    type Fabric = Spun<MockFabric>;

    fn over(mock: MockFabric) -> Spun<MockFabric> {
        Spun::over(mock, Spin::default())
    }

    fn below(track: &<Spun<MockFabric> as Fabric>::Track) -> &MockTrack {
        track.inner()
    }

    fn addr(mock: MockAddr) -> MockAddr {
        mock
    }
}

trespass_conformance::conformance_tests!(Over::<OverMock>::new());
