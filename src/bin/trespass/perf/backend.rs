//! The fabrics that there are to measure on: this file alone names them.

use trespass_core::{Address, Datagram, Drive, Fabric, InOrder, Lossless, MemoryFabric, Track};

use super::error::PerfError;
use super::plan::Shape;

#[cfg(feature = "mock")]
pub(crate) mod mock;
#[cfg(feature = "verbs")]
pub(crate) mod verbs;

/// What makes fabrics of a kind: one for each test, with tracks of its shape.
pub(crate) trait Backend {
    /// Its name in reports.
    const NAME: &'static str;
    /// Whether there are [`shared`](Self::shared) tracks.
    const SHARED: bool;
    type Addr: Address;
    type Fabric: MemoryFabric<Addr = Self::Addr, Track: Track<Delivery: Lossless + InOrder>>;
    /// Reliable tracks that share their queues.
    type Shared: Fabric<Addr = Self::Addr, Track: Track<Delivery: Lossless + InOrder>>;
    type Datagrams: Fabric<Addr = Self::Addr, Track: Track<Delivery = Datagram>>;
    type Driver: Drive;

    /// A fabric for the connection by which both ends talk of tests. It needs nobody to drive it. `here` is where a server
    /// listens.
    fn control(&self, shape: Shape, here: Option<&Self::Addr>) -> Result<Self::Fabric, PerfError>;

    /// A fabric for one test, on the device that has the address `here`, and what drives it.
    fn open(&self, shape: Shape, here: &Self::Addr) -> Result<(Self::Fabric, Self::Driver), PerfError>;

    /// # Errors
    /// [`Unsupported`](PerfError::Unsupported) where there are none.
    fn shared(&self, fabric: &Self::Fabric, shape: Shape) -> Result<Self::Shared, PerfError>;

    fn datagrams(&self, fabric: &Self::Fabric, shape: Shape) -> Result<Self::Datagrams, PerfError>;

    /// Where to listen for the connection of one test, on the machine whose address is `here`.
    fn place(&self, here: &Self::Addr) -> Result<Self::Addr, PerfError>;

    /// Which device a fabric is on.
    fn device(&self, fabric: &Self::Fabric) -> Option<String>;
}

#[cold]
fn opening(error: &impl trespass_core::TransportError) -> PerfError {
    PerfError::Transport { action: "opening the fabric", kind: error.kind(), why: error.to_string() }
}
