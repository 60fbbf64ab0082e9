//! What two devices and the wire between them would do. Modest but honest: a receive is posted or it is not, and a message
//! whose receiver has none posted waits on the wire and keeps its sender's slot.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use trespass_core::{ErrorKind, Limits, SystemTimer, WakerSlot};

use crate::{ToyAddr, ToyConfig, ToyError, lock};

/// The link between two ends. While its lock is held nobody is woken.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) config: ToyConfig,
    pub(crate) timer: SystemTimer,
    pub(crate) addrs: [ToyAddr; 2],
    device: Mutex<[Device; 2]>,
    pub(crate) send_wakers: [WakerSlot; 2],
    pub(crate) recv_wakers: [WakerSlot; 2],
}

/// What one end's hardware would hold.
#[derive(Debug)]
pub(crate) struct Device {
    /// Buffers reserved, queued and under way.
    pub(crate) slots_taken: usize,
    /// Sent, and not yet flushed.
    pub(crate) queued: VecDeque<Box<[u8]>>,
    /// Flushed, and the peer has no receive posted for it.
    wire: VecDeque<Box<[u8]>>,
    /// Arrived, and not yet received.
    pub(crate) arrived: VecDeque<Box<[u8]>>,
    /// Receives that wait for a message.
    free: usize,
    /// Received buffers that were given back and are not posted yet.
    pub(crate) returned: usize,
    pub(crate) posted: u64,
    /// Why this end has ended.
    pub(crate) ended: Option<ToyError>,
    /// Whether something was under way when it ended.
    lost: bool,
    pub(crate) doorbells: u64,
    pub(crate) arms: u64,
}

impl Device {
    fn new(limits: Limits) -> Self {
        Self {
            slots_taken: 0,
            queued: VecDeque::new(),
            wire: VecDeque::new(),
            arrived: VecDeque::new(),
            free: limits.recv_slots,
            returned: 0,
            posted: limits.recv_slots as u64,
            ended: None,
            lost: false,
            doorbells: 0,
            arms: 0,
        }
    }

    pub(crate) fn alive(&self) -> Result<(), ToyError> {
        self.ended.clone().map_or(Ok(()), Err)
    }

    /// Whether all that was flushed has arrived.
    pub(crate) fn is_clean(&self) -> bool {
        self.wire.is_empty() && !self.lost
    }

    /// Ends this end. The first cause sticks.
    pub(crate) fn end(&mut self, why: ErrorKind) {
        self.ended.get_or_insert(ToyError(why));
        self.lost |= !(self.queued.is_empty() && self.wire.is_empty());
        self.queued.clear();
        self.wire.clear();
    }
}

/// A track's view of the link: which side it is.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) link: Arc<Link>,
    pub(crate) side: usize,
}

impl End {
    /// The two ends of a new link, each with all its receives posted.
    pub(crate) fn pair(config: ToyConfig, timer: SystemTimer, addrs: [ToyAddr; 2]) -> [Self; 2] {
        let device = || Device::new(config.limits);
        let link = Arc::new(Link {
            config,
            timer,
            addrs,
            device: Mutex::new([device(), device()]),
            send_wakers: Default::default(),
            recv_wakers: Default::default(),
        });
        [0, 1].map(|side| Self { link: Arc::clone(&link), side })
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.link, &other.link) && self.side == other.side
    }

    pub(crate) fn devices(&self) -> MutexGuard<'_, [Device; 2]> {
        lock(&self.link.device)
    }

    /// Looks at this end's device, or changes it.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Device) -> T) -> T {
        work(&mut self.devices()[self.side])
    }
}

impl End {
    /// Moves what can move from one side to the other: each message into a receive that is posted for it.
    fn deliver_from(&self, from: usize) {
        let to = 1 - from;
        let moved = {
            let devices = &mut *self.devices();
            let moved = devices[to].free.min(devices[from].wire.len());
            let messages: Vec<_> = devices[from].wire.drain(..moved).collect();
            devices[to].arrived.extend(messages);
            devices[to].free -= moved;
            devices[from].slots_taken -= moved;
            moved
        };
        if moved > 0 {
            self.link.recv_wakers[to].wake();
            self.link.send_wakers[from].wake();
        }
    }

    /// Rings the doorbell, if there is anything to ring it for.
    pub(crate) fn flush(&self) -> Result<(), ToyError> {
        let rang = self.with(|device| {
            device.alive()?;
            let queued = std::mem::take(&mut device.queued);
            device.doorbells += u64::from(!queued.is_empty());
            device.wire.extend(queued);
            Ok(())
        });
        self.deliver_from(self.side);
        rang
    }

    /// Posts what was given back, which may make room for what the peer has on the wire.
    pub(crate) fn repost(&self) {
        self.with(|device| {
            if device.ended.is_none() {
                let returned = std::mem::take(&mut device.returned);
                device.free += returned;
                device.posted += returned as u64;
            }
        });
        self.deliver_from(1 - self.side);
    }

    /// Ends both ends, if there is anything left to end: this one for `why`, and the peer's as it would see a death.
    pub(crate) fn end(&self, why: ErrorKind) {
        {
            let devices = &mut *self.devices();
            devices[self.side].end(why);
            devices[1 - self.side].end(ErrorKind::Closed);
        }
        self.wake_all();
    }

    /// Pulls the cable. What both ends say then.
    pub(crate) fn cut(&self) -> ErrorKind {
        let why = ErrorKind::Disconnected;
        self.devices().iter_mut().for_each(|device| device.end(why));
        self.wake_all();
        why
    }

    fn wake_all(&self) {
        self.link.send_wakers.iter().chain(&self.link.recv_wakers).for_each(WakerSlot::wake);
    }
}
