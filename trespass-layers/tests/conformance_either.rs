//! Whichever backend is chosen at run time, the contract is kept.

mod support;

use support::{Over, Wrap};
use trespass_core::Fabric;
use trespass_layers::{Either, Metered};
use trespass_mock::{MockAddr, MockFabric, MockTrack};

type Chosen = Either<MockFabric, Metered<MockFabric>>;

fn below(track: &<Chosen as Fabric>::Track) -> &MockTrack {
    match track {
        Either::Left(track) => track,
        Either::Right(track) => track.inner(),
    }
}

struct TheFirst;

impl Wrap for TheFirst {
    type Fabric = Chosen;

    fn over(mock: MockFabric) -> Chosen {
        Either::Left(mock)
    }

    fn below(track: &<Chosen as Fabric>::Track) -> &MockTrack {
        below(track)
    }

    fn addr(mock: MockAddr) -> Either<MockAddr, MockAddr> {
        Either::Left(mock)
    }
}

struct TheSecond;

impl Wrap for TheSecond {
    type Fabric = Chosen;

    fn over(mock: MockFabric) -> Chosen {
        Either::Right(Metered::over(mock))
    }

    fn below(track: &<Chosen as Fabric>::Track) -> &MockTrack {
        below(track)
    }

    /// As one has that was parsed: of the first side that can read it.
    fn addr(mock: MockAddr) -> Either<MockAddr, MockAddr> {
        mock.as_str().parse().expect("an address")
    }
}

mod first {
    use super::*;
    trespass_conformance::conformance_tests!(Over::<TheFirst>::new());
}

mod second {
    use super::*;
    trespass_conformance::conformance_tests!(Over::<TheSecond>::new());
}
