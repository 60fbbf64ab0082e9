//! Real NICs, or soft-RoCE: each end is a process.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use trespass_verbs::{
    DatagramConfig, SharedConfig, VerbsConfig, VerbsDatagrams, VerbsDriver, VerbsFabric, VerbsShared,
};

use super::{Backend, opening};
use crate::perf::error::PerfError;
use crate::perf::plan::Shape;

#[derive(Debug, Clone)]
pub(crate) struct Verbs {
    pub(crate) device: Option<String>,
    pub(crate) local: Option<IpAddr>,
    pub(crate) patience: Duration,
}

impl Verbs {
    fn config(&self, shape: Shape, here: Option<&SocketAddr>) -> VerbsConfig {
        let mut config = VerbsConfig::default()
            .with_slots(shape.message, shape.sends, shape.receives)
            .with_timeouts(self.patience, self.patience);
        config.device.clone_from(&self.device);
        config.local = here.map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()).or(self.local);
        config
    }
}

impl Backend for Verbs {
    const NAME: &'static str = "verbs";
    const SHARED: bool = true;
    type Addr = SocketAddr;
    type Fabric = VerbsFabric;
    type Shared = VerbsShared;
    type Datagrams = VerbsDatagrams;
    type Driver = VerbsDriver;

    fn control(&self, shape: Shape, here: Option<&SocketAddr>) -> Result<VerbsFabric, PerfError> {
        VerbsFabric::open(self.config(shape, here)).map_err(|error| opening(&error))
    }

    /// No second thread takes part in a wake-up.
    fn open(&self, shape: Shape, here: &SocketAddr) -> Result<(VerbsFabric, VerbsDriver), PerfError> {
        VerbsFabric::open_manual(self.config(shape, Some(here))).map_err(|error| opening(&error))
    }

    fn shared(&self, fabric: &VerbsFabric, shape: Shape) -> Result<VerbsShared, PerfError> {
        let config = SharedConfig::default().with_tracks(1, shape.receives);
        fabric.shared(config).map_err(|error| opening(&error))
    }

    fn datagrams(&self, fabric: &VerbsFabric, shape: Shape) -> Result<VerbsDatagrams, PerfError> {
        let config = DatagramConfig::default()
            .with_slots(shape.sends, shape.receives)
            .with_tracks(1)
            .with_peers(shape.sends + 1);
        fabric.datagrams(config).map_err(|error| opening(&error))
    }

    fn place(&self, here: &SocketAddr) -> Result<SocketAddr, PerfError> {
        Ok(SocketAddr::new(here.ip(), 0))
    }

    fn device(&self, fabric: &VerbsFabric) -> Option<String> {
        Some(fabric.device().to_owned())
    }
}
