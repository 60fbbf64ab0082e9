//! The contract, asserted while a program runs.

#[cfg(not(debug_assertions))]
#[path = "off.rs"]
mod state;
#[cfg(debug_assertions)]
#[path = "on.rs"]
mod state;
mod track;

use std::task::Poll;

use trespass_core::{Fabric, Role};

use crate::layer::{Layer, Layered};

pub use track::{CheckedRecvBuf, CheckedSendBuf, CheckedTrack, Checking};

/// A fabric under test by every program that uses it: what is between the two is held to `docs/CONTRACT.md`.
///
/// ```
/// use trespass_layers::Checked;
/// use trespass_mock::MockFabric;
///
/// let fabric = Checked::over(MockFabric::new()); // and go on as with the other
/// # let _ = fabric;
/// ```
///
/// # What a violation does
/// In builds with `debug_assertions` it panics, and the message names the clause: either the fabric below is wrong, or
/// this layer is; never the program above, which cannot break the contract by calling what it may call. In other builds
/// nothing is checked and nothing is kept: tracks and buffers are no larger than those below.
///
/// # What is checked
/// What one end can see in the calls that pass: lengths (B1, B2, B4), that what was reserved can be sent (B3), slots
/// (B5, F4), whose a buffer is (B8), that received bytes stay as they were (B9), `posted` (F6), that ready means ready (W1),
/// halves that agree (W6), that all calls after an end say so (E1, E3, E5, E6), who is connected to whom (C5), listeners
/// after their end (C6). Arrival, order and wake-ups need two ends and time: that is what the conformance kit is for.
///
/// # Costs, in debug builds
/// An allocation per track; per message two atomic additions and two subtractions, and a checksum of the received bytes,
/// twice.
pub type Checked<F> = Layered<Check, F>;

impl<F: Fabric> Checked<F> {
    /// Checks `fabric`.
    pub fn over(fabric: F) -> Self {
        Self::new(fabric, Check)
    }
}

/// The layer of [`Checked`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Check;

/// What is known of a listener.
#[derive(Debug, Default)]
pub struct Listening(state::ListenCheck);

impl<F: Fabric> Layer<F> for Check {
    type Error = F::Error;
    type Track = CheckedTrack<F::Track>;
    type Listening = Listening;

    fn track(&self, track: F::Track, _: Role, peer: &F::Addr) -> Self::Track {
        Checking::track(track, peer)
    }

    fn polled(&self, listening: &mut Listening, polled: Poll<Result<(), &F::Error>>) {
        listening.0.polled(polled);
    }

    fn closing(&self, listening: &mut Listening) {
        listening.0.closing();
    }
}
