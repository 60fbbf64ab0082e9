//! `VerbsFabric`: one device.

use std::net::SocketAddr;
use std::sync::Arc;

use trespass_core::Fabric;

use crate::config::VerbsConfig;
use crate::datagram::{DatagramConfig, VerbsDatagrams};
use crate::driver::{Control, Handle, VerbsDriver};
use crate::error::VerbsError;
use crate::listener::{TrackListener, VerbsHandshake};
use crate::memory::Registrar;
use crate::shared::{SharedConfig, VerbsShared};
use crate::timer::VerbsTimer;
use crate::track::ReliableTrack;

/// One RDMA device, with a protection domain and a pool of registered memory of its own.
///
/// # Examples
/// ```no_run
/// use trespass_core::{Fabric, RecvSideExt, SendSide, SendSideExt};
/// use trespass_verbs::{VerbsConfig, VerbsFabric};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let fabric = VerbsFabric::open(VerbsConfig::default())?;
/// futures_executor::block_on(async {
///     let mut track = fabric.connect(&"10.9.0.2:7471".parse()?).await?;
///     let mut buf = track.reserve(5).await?;
///     buf.copy_from_slice(b"hello");
///     track.send(buf)?;
///     let reply = track.recv().await?;
///     println!("{reply:?}");
///     Ok(())
/// })
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct VerbsFabric {
    handle: Handle,
}

impl VerbsFabric {
    /// Opens a device, with a driver on a thread of its own. The thread ends with the last handle, track, listener and
    /// timer of the fabric.
    ///
    /// # Errors
    /// Kind `Unavailable` where there is no RDMA, `Config` for a bad setting, `ResourceLimit` where too little memory
    /// may be locked. Each says what mends it.
    pub fn open(config: VerbsConfig) -> Result<Self, VerbsError> {
        let (fabric, driver) = Self::open_manual(config)?;
        std::thread::Builder::new()
            .name("trespass-verbs".into())
            .spawn(move || driver.run())
            .map_err(|error| VerbsError::os("start the driver's thread", &error))?;
        Ok(fabric)
    }

    /// Opens a device whose background work the caller does: with [`block_on`](trespass_core::block_on), or by calling
    /// [`drive`](trespass_core::Drive::drive) from a loop of one's own. Nothing connects, nothing is woken and nothing is
    /// torn down except while it is driven. The fewest instructions and thread switches for each wake-up.
    ///
    /// # Errors
    /// As [`open`](VerbsFabric::open).
    pub fn open_manual(config: VerbsConfig) -> Result<(Self, VerbsDriver), VerbsError> {
        let control = Control::new(config)?;
        let (driver, handle) = VerbsDriver::new(&control);
        Ok((Self { handle }, driver))
    }

    /// Unreliable datagrams on the same device, with the same driver.
    ///
    /// # Errors
    /// Kind `Config` for a bad setting; `Unavailable` where the device has no unreliable datagrams, or is not on RoCE v2;
    /// `ResourceLimit` where too little memory may be locked.
    pub fn datagrams(&self, config: DatagramConfig) -> Result<VerbsDatagrams, VerbsError> {
        VerbsDatagrams::new(self.handle.clone(), config)
    }

    /// Reliable tracks on the same device, with the same driver, that share their queues.
    ///
    /// # Errors
    /// Kind `Config` for a bad setting; `Unavailable` where the device has no shared receive queues; `ResourceLimit` where
    /// too little memory may be locked.
    pub fn shared(&self, config: SharedConfig) -> Result<VerbsShared, VerbsError> {
        VerbsShared::new(self.handle.clone(), config)
    }

    pub(crate) fn registrar(&self) -> &Arc<Registrar> {
        &self.handle.control().registrar
    }

    /// The name of the device.
    pub fn device(&self) -> &str {
        &self.handle.control().device.name
    }
}

impl Fabric for VerbsFabric {
    type Addr = SocketAddr;
    type Error = VerbsError;
    type Timer = VerbsTimer;
    type Track = ReliableTrack;
    type Listener = TrackListener;
    type Connecting = VerbsHandshake;

    fn listen(&self, addr: &SocketAddr) -> Result<TrackListener, VerbsError> {
        TrackListener::new(self.handle.clone(), *addr)
    }

    fn connect(&self, addr: &SocketAddr) -> VerbsHandshake {
        VerbsHandshake::connect(self.handle.clone(), *addr)
    }

    fn timer(&self) -> VerbsTimer {
        VerbsTimer::new(self.handle.clone())
    }
}
