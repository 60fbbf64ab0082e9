//! What the ports of a device went through, so that an error can say that its link was down.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use sideway::ibverbs::device_context::DeviceContext;

use crate::error::VerbsError;
use crate::port::PortState;
use crate::raw::port::query_port;

/// The links of a device.
pub(crate) struct Links {
    device: String,
    /// None in a model, which has no device.
    context: Option<Arc<DeviceContext>>,
    outages: Mutex<Outages>,
    /// How long an outage is to blame after it is over: what was sent during it is tried again for so long.
    memory: Duration,
}

impl Links {
    pub(crate) fn new(device: &str, context: &Arc<DeviceContext>, ports: u8, memory: Duration) -> Arc<Self> {
        let outages = Mutex::new(Outages::new(ports));
        Arc::new(Self { device: device.to_owned(), context: Some(Arc::clone(context)), outages, memory })
    }

    /// The device says that the port went down.
    pub(crate) fn went_down(&self, port: u8) {
        self.outages().went_down(port, Instant::now(), SystemTime::now());
    }

    /// The device says that the port works again.
    pub(crate) fn came_up(&self, port: u8) {
        self.outages().came_up(port, Instant::now());
    }

    fn is_down(&self, port: u8) -> bool {
        let state = self.context.as_ref().and_then(|context| query_port(context, port).ok());
        state.is_some_and(|attr| PortState::from_code(attr.state) == PortState::Down)
    }

    fn outages(&self) -> MutexGuard<'_, Outages> {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The link of one track.
pub(crate) struct Link {
    pub(crate) links: Arc<Links>,
    pub(crate) port: u8,
}

impl Link {
    /// One of no device, for a model.
    #[cfg(all(test, loom))]
    pub(crate) fn of_no_device() -> Self {
        let outages = Mutex::new(Outages::new(1));
        let links = Links { device: String::new(), context: None, outages, memory: Duration::ZERO };
        Self { links: Arc::new(links), port: 1 }
    }

    /// The failure of the track, with the outage that explains it. Asks the device too, by one system call: a completion
    /// may be looked at before the event.
    pub(crate) fn explain(&self, failure: VerbsError) -> VerbsError {
        if !failure.may_be_the_link() {
            return failure;
        }
        let links = &self.links;
        if links.is_down(self.port) {
            links.went_down(self.port);
        }
        let now = Instant::now();
        let Some(outage) = links.outages().to_blame(self.port, now, links.memory) else { return failure };
        VerbsError::LinkDown {
            device: links.device.clone(),
            port: self.port,
            at: outage.at,
            before: now.saturating_duration_since(outage.began),
            cause: Box::new(failure),
        }
    }
}

/// The last outage of each port, by number.
struct Outages(Vec<Option<Outage>>);

#[derive(Debug, Clone, Copy)]
struct Outage {
    at: SystemTime,
    began: Instant,
    over: Option<Instant>,
}

impl Outages {
    /// Ports count from 1.
    fn new(ports: u8) -> Self {
        Self(vec![None; usize::from(ports) + 1])
    }

    /// An outage begins, unless one is under way.
    fn went_down(&mut self, port: u8, now: Instant, at: SystemTime) {
        if let Some(outage) = self.0.get_mut(usize::from(port)) {
            if outage.is_none_or(|outage| outage.over.is_some()) {
                *outage = Some(Outage { at, began: now, over: None });
            }
        }
    }

    fn came_up(&mut self, port: u8, now: Instant) {
        if let Some(Some(outage)) = self.0.get_mut(usize::from(port)) {
            outage.over.get_or_insert(now);
        }
    }

    /// The outage that is under way, or was over less than `memory` ago.
    fn to_blame(&self, port: u8, now: Instant, memory: Duration) -> Option<Outage> {
        let outage = (*self.0.get(usize::from(port))?)?;
        outage.over.is_none_or(|over| now.saturating_duration_since(over) <= memory).then_some(outage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_to_blame_until_its_retries_are_over() {
        let (begin, memory) = (Instant::now(), Duration::from_secs(2));
        let after = |seconds| begin + Duration::from_secs(seconds);
        let mut outages = Outages::new(2);
        assert!(outages.to_blame(1, begin, memory).is_none());
        outages.went_down(1, begin, SystemTime::UNIX_EPOCH);
        // Told twice, by the event and by the port: it began when it began.
        outages.went_down(1, after(3), SystemTime::UNIX_EPOCH);
        assert_eq!(outages.to_blame(1, after(9), memory).map(|outage| outage.began), Some(begin));
        assert!(outages.to_blame(2, after(9), memory).is_none());
        outages.came_up(1, after(10));
        assert!(outages.to_blame(1, after(12), memory).is_some());
        assert!(outages.to_blame(1, after(13), memory).is_none());
        outages.went_down(1, after(14), SystemTime::UNIX_EPOCH);
        assert_eq!(outages.to_blame(1, after(99), memory).map(|outage| outage.began), Some(after(14)));
    }

    #[test]
    fn ports_that_do_not_exist_are_ignored() {
        let mut outages = Outages::new(1);
        outages.went_down(2, Instant::now(), SystemTime::now());
        outages.came_up(255, Instant::now());
        assert!(outages.to_blame(255, Instant::now(), Duration::MAX).is_none());
    }
}
