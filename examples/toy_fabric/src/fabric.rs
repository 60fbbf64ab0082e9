//! The fabric: who listens where.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use trespass_core::{ErrorKind, Fabric, SystemTimer, Timer};

use crate::connect::{Answer, Queue, Request};
use crate::{ToyConfig, ToyConnecting, ToyError, ToyListener, ToyTrack, lock};

/// A place in a toy fabric: `toy:7`. Number zero lets the fabric choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ToyAddr(pub u32);

impl fmt::Display for ToyAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "toy:{}", self.0)
    }
}

impl FromStr for ToyAddr {
    type Err = ToyError;

    fn from_str(text: &str) -> Result<Self, ToyError> {
        let number = text.strip_prefix("toy:").and_then(|number| number.parse().ok());
        number.map(Self).ok_or(ToyError(ErrorKind::Config))
    }
}

/// A fabric in one process. Clones are handles of the same one.
#[derive(Debug, Clone)]
pub struct Toy {
    shared: Arc<Shared>,
}

/// What all handles, listeners and handshakes of a fabric share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ToyConfig,
    pub(crate) timer: SystemTimer,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    queues: HashMap<ToyAddr, Arc<Queue>>,
    last: u32,
}

impl Places {
    /// A number that was not used before.
    fn choose(&mut self) -> ToyAddr {
        self.last += 1;
        ToyAddr(1_000_000 + self.last)
    }
}

impl Toy {
    /// A fabric of its own: no other one reaches it.
    pub fn new(config: ToyConfig) -> Self {
        Self { shared: Arc::new(Shared { config, timer: SystemTimer::new(), places: Mutex::default() }) }
    }
}

impl Shared {
    /// Nobody listens there any more.
    pub(crate) fn free(&self, addr: ToyAddr) {
        lock(&self.places).queues.remove(&addr);
    }
}

impl Fabric for Toy {
    type Addr = ToyAddr;
    type Error = ToyError;
    type Timer = SystemTimer;
    type Track = ToyTrack;
    type Listener = ToyListener;
    type Connecting = ToyConnecting;

    fn listen(&self, addr: &ToyAddr) -> Result<ToyListener, ToyError> {
        let mut places = lock(&self.shared.places);
        let addr = if addr.0 == 0 { places.choose() } else { *addr };
        match places.queues.entry(addr) {
            Entry::Occupied(_) => Err(ToyError(ErrorKind::Busy)),
            Entry::Vacant(place) => {
                let queue = Arc::clone(place.insert(Arc::new(Queue::new(self.shared.config.backlog))));
                Ok(ToyListener::new(addr, queue, Arc::clone(&self.shared)))
            }
        }
    }

    fn connect(&self, addr: &ToyAddr) -> ToyConnecting {
        let (from, queue) = {
            let mut places = lock(&self.shared.places);
            (places.choose(), places.queues.get(addr).cloned())
        };
        let request = Arc::new(Request::new(from, *addr, Arc::clone(&self.shared)));
        match queue {
            Some(queue) => queue.push(&request),
            None => request.answer(Answer::No(ToyError(ErrorKind::Refused))),
        }
        ToyConnecting::new(request, self.shared.timer.sleep(self.shared.config.handshake))
    }

    fn timer(&self) -> SystemTimer {
        self.shared.timer.clone()
    }
}
