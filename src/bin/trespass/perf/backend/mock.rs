//! In process: both ends are threads of this program.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use trespass_core::Drive;
use trespass_mock::{MockAddr, MockConfig, MockDatagramConfig, MockDatagrams, MockFabric, MockNet};

use super::{Backend, opening};
use crate::perf::error::PerfError;
use crate::perf::plan::Shape;

/// A net in real time. Cheap to clone: a handle.
#[derive(Debug, Clone)]
pub(crate) struct Mock {
    net: MockNet,
    patience: Duration,
    datagrams: MockDatagramConfig,
    places: Arc<AtomicU64>,
}

impl Mock {
    pub(crate) fn new(patience: Duration) -> Self {
        // No MTU keeps a message from going, in process; whoever wants to see the pieces of longer ones says so.
        let datagrams = MockDatagramConfig::default();
        Self { net: MockNet::new(), patience, datagrams, places: Arc::default() }
    }

    /// The same, with datagrams of this sort; the slots are those of the test.
    #[cfg(test)]
    pub(crate) fn with_datagrams(self, datagrams: MockDatagramConfig) -> Self {
        Self { datagrams, ..self }
    }
}

impl Backend for Mock {
    const NAME: &'static str = "mock";
    const SHARED: bool = false;
    type Addr = MockAddr;
    type Fabric = MockFabric;
    /// There are none.
    type Shared = MockFabric;
    type Datagrams = MockDatagrams;
    type Driver = Parked;

    fn control(&self, shape: Shape, _: Option<&MockAddr>) -> Result<MockFabric, PerfError> {
        let config = MockConfig::default()
            .with_max_message(shape.message)
            .with_send_slots(shape.sends)
            .with_recv_slots(shape.receives)
            .with_handshake_timeout(self.patience)
            .with_close_timeout(self.patience);
        self.net.fabric(config).map_err(|error| opening(&error))
    }

    fn open(&self, shape: Shape, here: &MockAddr) -> Result<(MockFabric, Parked), PerfError> {
        Ok((self.control(shape, Some(here))?, Parked))
    }

    fn shared(&self, _: &MockFabric, _: Shape) -> Result<MockFabric, PerfError> {
        Err(PerfError::Unsupported("tracks that share their queues"))
    }

    fn datagrams(&self, fabric: &MockFabric, shape: Shape) -> Result<MockDatagrams, PerfError> {
        let config = self.datagrams.clone().with_slots(shape.sends, shape.receives);
        fabric.datagrams(config).map_err(|error| opening(&error))
    }

    fn place(&self, _: &MockAddr) -> Result<MockAddr, PerfError> {
        let number = self.places.fetch_add(1, Ordering::Relaxed);
        addr(&format!("test-{number}"))
    }

    fn device(&self, _: &MockFabric) -> Option<String> {
        None
    }
}

pub(crate) fn addr(text: &str) -> Result<MockAddr, PerfError> {
    text.parse().map_err(|error| opening(&error))
}

/// Nothing goes on in the background of a mock: whoever waits parks.
pub(crate) struct Parked;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Drive for Parked {
    fn drive(&mut self, timeout: Option<Duration>) {
        match timeout {
            None => thread::park(),
            Some(Duration::ZERO) => {}
            Some(timeout) => thread::park_timeout(timeout),
        }
    }

    fn interrupter(&self) -> Waker {
        Arc::new(Unpark(thread::current())).into()
    }
}
