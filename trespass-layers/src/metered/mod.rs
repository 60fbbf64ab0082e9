//! Counters of everything that passes, and their export.

mod counts;
mod export;
mod track;

use std::sync::Arc;

use trespass_core::{Fabric, Role, TransportError};

use crate::layer::{Event, Layer, Layered};
use counts::{Membership, Totals, one_more};

pub use counts::{Errors, Snapshot, TrackCounts};
pub use track::Metering;

/// A fabric that counts.
///
/// ```
/// use trespass_core::{ErrorKind, Fabric};
/// use trespass_layers::Metered;
/// use trespass_mock::MockFabric;
///
/// let fabric = Metered::over(MockFabric::new());
/// let refused = futures_executor::block_on(fabric.connect(&"nobody".parse()?));
/// assert!(refused.is_err());
/// let counted = fabric.snapshot();
/// assert_eq!((counted.connects, counted.connected), (1, 0));
/// assert_eq!(counted.errors.of(ErrorKind::Refused), 1);
/// # Ok::<_, trespass_mock::MockError>(())
/// ```
///
/// One track's own numbers: [`Metering::counts`]. What only the backend can tell, doorbells or receivers that were not
/// ready, is where it was: [`inner`](Layered::inner) of the fabric, [`Metering::inner`] of a track. What a carrier
/// counts, credits among it, is in its own `stats`.
///
/// # Costs
/// Each sent or received message: a few loads and stores of numbers that no other thread writes. No allocation, lock or
/// atomic read-modify-write. Each track: a few allocations when it begins, and a lock then and when it
/// ends.
///
/// # Exports
/// - With the feature `metrics`, `publish` gives all counters to the recorder that is installed: call it as often as you
///   like them fresh. Between calls nothing is paid.
/// - With the feature `tracing`, each connection that comes to be, is refused, fails or ends is an event of the target
///   `trespass`. A message is never one.
pub type Metered<F> = Layered<Meter, F>;

impl<F: Fabric> Metered<F> {
    /// Counts what passes through `fabric`.
    pub fn over(fabric: F) -> Self {
        Self::named(fabric, "default")
    }

    /// The same, and exports say that it is of the fabric called `name`.
    pub fn named(fabric: F, name: &str) -> Self {
        Self::new(fabric, Meter { name: name.into(), totals: Arc::default() })
    }

    /// What was counted so far, by all handles of this fabric. Takes time with each live track, and the lock that a new
    /// track takes.
    pub fn snapshot(&self) -> Snapshot {
        self.layer().totals.snapshot()
    }

    /// Gives what was counted so far to the recorder of the crate `metrics` that is installed: counters, absolute, named
    /// `trespass_…_total`, and the gauge `trespass_tracks`; each with the label `fabric`, and errors with their `kind`.
    #[cfg(feature = "metrics")]
    pub fn publish(&self) {
        export::publish(&self.layer().name, &self.snapshot());
    }
}

/// The layer of [`Metered`].
#[derive(Debug, Clone)]
pub struct Meter {
    name: Arc<str>,
    totals: Arc<Totals>,
}

impl<F: Fabric> Layer<F> for Meter {
    type Error = F::Error;
    type Track = Metering<F::Track>;
    type Listening = ();

    fn track(&self, track: F::Track, role: Role, peer: &F::Addr) -> Self::Track {
        one_more(match role {
            Role::Connector => &self.totals.connected,
            Role::Acceptor => &self.totals.accepted,
        });
        export::joined(&self.name, role, peer);
        let membership = Membership::new(Arc::clone(&self.totals));
        Metering::track(track, membership, Arc::clone(&self.name))
    }

    fn note(&self, event: Event<'_, F::Addr, F::Error>) {
        let totals = &self.totals;
        match &event {
            Event::Connecting(_) => one_more(&totals.connects),
            Event::Requested(_) => one_more(&totals.requests),
            Event::Refused(_) => one_more(&totals.refused),
            Event::Failed(_, _, error) | Event::NotListening(_, error) | Event::ListenerEnded(_, error) => {
                totals.error(error.kind());
            }
            Event::Listening(_) => {}
        }
        export::event(&self.name, &event);
    }
}
