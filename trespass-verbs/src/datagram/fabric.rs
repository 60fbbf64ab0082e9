//! `VerbsDatagrams`: the datagrams of one device.

use std::net::SocketAddr;
use std::sync::Arc;

use trespass_core::{Fabric, PortFabric};

use super::addressed::VerbsPort;
use super::config::{Address, Addresses, DatagramConfig, Pools, Shape, gid_of, shape_of};
use super::listener::DatagramListener;
use super::recv::VerbsPeer;
use super::track::UnreliableTrack;
use super::ways::Ways;
use crate::driver::{Control, Handle, Want};
use crate::error::VerbsError;
use crate::listener::VerbsHandshake;
use crate::timer::VerbsTimer;

/// Unreliable datagrams (UD) on the device of a [`VerbsFabric`](crate::VerbsFabric), with its driver and protection domain:
/// [ports](VerbsPort) of many peers, and [tracks](UnreliableTrack) of one.
///
/// On RoCE v2 only. The longest datagram is what the MTU of the device's port leaves, which the operating system sets: some
/// 1,024 bytes with an Ethernet MTU of 1,500, and 4,096 with one of 4,200 or more.
///
/// # Examples
/// ```no_run
/// use trespass_core::{Fabric, Port, PortExt, PortFabric};
/// use trespass_verbs::{DatagramConfig, VerbsConfig, VerbsFabric};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let fabric = VerbsFabric::open(VerbsConfig::default())?;
/// let datagrams = fabric.datagrams(DatagramConfig::default())?;
/// futures_executor::block_on(async {
///     let mut port = datagrams.open_port(&"10.9.0.1:0".parse()?)?;
///     let peer = datagrams.resolve(&"10.9.0.2:7471".parse()?).await?;
///     let mut buf = port.reserve(5).await?;
///     buf.copy_from_slice(b"hello");
///     port.send_to(buf, &peer)?;
///     let reply = port.recv().await?;
///     println!("{reply:?}");
///     Ok(())
/// })
/// # }
/// ```
#[derive(Clone)]
pub struct VerbsDatagrams {
    handle: Handle,
    datagrams: Arc<Datagrams>,
}

/// What all ports of a fabric have in common.
pub(crate) struct Datagrams {
    pub(crate) config: DatagramConfig,
    pub(crate) shape: Shape,
    pub(crate) pools: Pools,
    addresses: Addresses,
    /// The address of the fabric.
    local: Address,
}

impl Datagrams {
    fn new(control: &Control, config: DatagramConfig) -> Result<Self, VerbsError> {
        let (shape, addresses, local) = shape_of(&config, &control.config, &control.device)?;
        let pools = Pools::new(&control.device, &shape, control.config.pool_limit)?;
        Ok(Self { config, shape, pools, addresses, local })
    }

    /// The ways from a port that is at `local`.
    pub(crate) fn ways_from(&self, local: SocketAddr) -> Ways {
        Ways::new(self.address_of(Some(local)), self.config.peers)
    }

    /// The address of ours at which `local` was reached; that of the fabric where it says none.
    pub(crate) fn address_of(&self, local: Option<SocketAddr>) -> Address {
        local.and_then(|addr| self.addresses.find(gid_of(addr.ip()))).unwrap_or(self.local)
    }
}

impl VerbsDatagrams {
    pub(crate) fn new(handle: Handle, config: DatagramConfig) -> Result<Self, VerbsError> {
        let datagrams = Arc::new(Datagrams::new(handle.control(), config)?);
        Ok(Self { handle, datagrams })
    }
}

impl Fabric for VerbsDatagrams {
    type Addr = SocketAddr;
    type Error = VerbsError;
    type Timer = VerbsTimer;
    type Track = UnreliableTrack;
    type Listener = DatagramListener;
    type Connecting = VerbsHandshake<UnreliableTrack>;

    fn listen(&self, addr: &SocketAddr) -> Result<DatagramListener, VerbsError> {
        DatagramListener::new(self.handle.clone(), &self.datagrams, *addr)
    }

    fn connect(&self, addr: &SocketAddr) -> VerbsHandshake<UnreliableTrack> {
        VerbsHandshake::begin(self.handle.clone(), |control, promise| {
            control.seek(&self.datagrams, *addr, Want::track(promise))
        })
    }

    fn timer(&self) -> VerbsTimer {
        VerbsTimer::new(self.handle.clone())
    }
}

impl PortFabric for VerbsDatagrams {
    type Port = VerbsPort;
    type Resolving = VerbsHandshake<VerbsPeer>;

    fn open_port(&self, addr: &SocketAddr) -> Result<VerbsPort, VerbsError> {
        self.handle.control().open_port(&self.datagrams, *addr)
    }

    fn resolve(&self, addr: &SocketAddr) -> VerbsHandshake<VerbsPeer> {
        VerbsHandshake::begin(self.handle.clone(), |control, promise| {
            control.seek(&self.datagrams, *addr, Want::peer(promise))
        })
    }
}

impl std::fmt::Debug for VerbsDatagrams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerbsDatagrams")
            .field("handle", &self.handle)
            .field("config", &self.datagrams.config)
            .finish_non_exhaustive()
    }
}
