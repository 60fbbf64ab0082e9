//! Datagrams of any fabric, for tests: what is sent may be lost, duplicated, overtaken or late.

mod config;
mod error;
mod network;
mod slots;
mod track;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use trespass_core::{Fabric, Role};

use crate::layer::{Layer, Layered};
use network::{Network, mix};

pub use config::LossyConfig;
pub use error::LossyError;
pub use network::Faults;
pub use slots::LossySendBuf;
pub use track::{LossyReceiver, LossySender, LossyTrack};

/// A fabric whose tracks are datagram tracks (`Delivery = Datagram`), as if a bad network were below.
///
/// ```
/// use trespass_core::{Fabric, Incoming, ListenerExt, RecvSide, SendSide, SendSideExt};
/// use trespass_layers::{Lossy, lossy::LossyConfig};
/// use trespass_mock::MockFabric;
///
/// let fabric = Lossy::over(MockFabric::new(), LossyConfig::new(7).with_loss(500));
/// futures_executor::block_on(async {
///     let mut listener = fabric.listen(&"there".parse().unwrap()).unwrap();
///     let connecting = fabric.connect(&"there".parse().unwrap());
///     let mut server = listener.incoming().await.unwrap().accept().await.unwrap();
///     let mut client = connecting.await.unwrap();
///     let mut arrived = 0;
///     for _ in 0..100 {
///         let buf = client.reserve(10).await.unwrap();
///         client.send(buf).unwrap();
///         client.flush().unwrap();
///         arrived += usize::from(server.try_recv().is_ok());
///     }
///     assert_eq!(arrived as u64, 100 - client.faults().lost);
///     assert!((20..80).contains(&arrived));
/// });
/// ```
///
/// # Replay
/// What happens to a message follows from the seed ([`LossyConfig::seed`]), from how many tracks this fabric connected or
/// accepted before this one, and from how many messages this track sent before. So a run with the same seed, and tracks in
/// the same order, has the same faults. What a full receiver drops depends on when it takes.
///
/// # What a datagram is here
/// - A message is written to the track below when it is flushed, if that has a slot, and dropped if not: a receiver that
///   takes nothing stalls nobody. Its capacity is what the track below holds.
/// - A peer that ends, or dies, is not heard of: sends go nowhere, and nothing comes. A link or device that fails is.
/// - A close does not wait for the peer. What the peer had no room for is gone.
///
/// # Costs
/// Two copies per message instead of one, a lock for each send buffer, and an allocation for each message that is held
/// back: it is meant for tests.
pub type Lossy<F> = Layered<Loss, F>;

impl<F: Fabric> Lossy<F> {
    /// Makes datagrams of `fabric`.
    pub fn over(fabric: F, config: LossyConfig) -> Self {
        Self::new(fabric, Loss { config, tracks: Arc::default() })
    }

    /// How it is set up.
    pub fn config(&self) -> LossyConfig {
        self.layer().config
    }
}

/// The layer of [`Lossy`].
#[derive(Debug, Clone)]
pub struct Loss {
    config: LossyConfig,
    /// How many were connected and accepted.
    tracks: Arc<[AtomicU64; 2]>,
}

impl<F: Fabric> Layer<F> for Loss {
    type Error = LossyError<F::Error>;
    type Track = LossyTrack<F::Track>;
    type Listening = ();

    fn track(&self, track: F::Track, role: Role, _: &F::Addr) -> Self::Track {
        let side = usize::from(role == Role::Acceptor);
        let number = self.tracks[side].fetch_add(1, Ordering::Relaxed);
        // One stream of numbers for each track and side.
        let seed = mix(mix(self.config.seed() ^ mix(side as u64 + 1)) ^ number);
        LossyTrack::new(track, Network::new(self.config, seed))
    }
}
