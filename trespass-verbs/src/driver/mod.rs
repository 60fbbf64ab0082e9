//! The driver: the one place where connections are set up and torn down, events are read and alarms are rung.
//!
//! What users hold ([`Handle`], [`Ticket`]) only leaves [`Command`]s and nudges; nobody but the driver destroys a queue
//! pair while a driver lives. It runs on a thread of its own, or on the caller's through [`trespass_core::Drive`].

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::time::Duration;

use trespass_core::Drive;

use crate::config::VerbsConfig;
use crate::datagram::UnreliableTrack;
use crate::device::Device;
use crate::error::VerbsError;
use crate::hub::{Member, Side};
use crate::memory::Registrar;
use crate::pool::Pool;
use crate::promise::Promise;
use crate::raw::cm::CmChannel;
use crate::raw::cq::next_cq_event;
use crate::raw::events::async_fd;
use crate::raw::fd::{EventFd, Readable};
use crate::sync::{AtomicBool, AtomicUsize, Ordering};
use crate::timer::{Clock, VerbsTimer};

mod again;
mod asking;
mod datagrams;
mod entry;
mod failures;
mod handshake;
mod mailbox;
mod setup;
mod slab;

pub(crate) use datagrams::Want;
use entry::Entry;
pub(crate) use entry::{ListenerShared, Request, Taker};
use mailbox::Mailbox;
use slab::Slab;

/// Completion events of one queue that may be unacknowledged: acknowledging takes a lock of libibverbs, so not each time.
const ACK_BATCH: u32 = 64;

/// With so many entries or fewer (a listener and a track), a turn of the driver takes one completion event: the next
/// poll(2) tells whether there is another, and a read that finds nothing is saved. With more of them there often is.
const FEW: usize = 2;

/// How many commands, and how many events that build a connection, a turn of the driver takes at most. Each may take
/// milliseconds; what else waits for the driver (completions, requests, alarms) does not wait for a whole storm of them.
const AT_ONCE: usize = 4;

/// What the driver waits for, as bits.
const NUDGED: u32 = 1;
const COMPLETIONS: u32 = 1 << 1;
const CONNECTIONS: u32 = 1 << 2;
const ASYNC_EVENTS: u32 = 1 << 3;

/// What the driver and everything that users hold have in common.
pub(crate) struct Control {
    pub(crate) config: VerbsConfig,
    pub(crate) channel: Arc<CmChannel>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) registrar: Arc<Registrar>,
    pub(crate) device: Arc<Device>,
    clock: Clock,
    nudge: EventFd,
    /// Of all that the driver waits for: [`NUDGED`] and those after it.
    readable: Readable,
    /// Connections and listeners. Never held while a waker runs: that may drop anything.
    state: Mutex<State>,
    mailbox: Mailbox<Command>,
    /// A deadline came or went since the driver looked for the earliest.
    deadlines_changed: AtomicBool,
    /// How many handles there are.
    handles: AtomicUsize,
}

pub(crate) struct State {
    pub(crate) entries: Slab<Entry>,
    /// The deadlines of handshakes.
    pub(crate) deadlines: BTreeSet<(Duration, u64)>,
}

/// What is left for the driver to do, by the token of the connection.
pub(crate) enum Command {
    Accept(u64, Taker),
    /// With the claim that keeps the listener's port.
    AcceptDatagrams(u64, Arc<Promise<UnreliableTrack>>, Arc<Ticket>),
    Refuse(u64),
    /// Says "busy" to a request.
    PutOff(u64),
    /// The future of a handshake was dropped.
    Cancel(u64),
    /// The sending half was dropped alone.
    CutOff(u64),
    /// Both halves were dropped.
    TearDown(u64),
    /// A port, or shared queues, whose users sleep have got receive buffers back.
    Refill(u64),
    /// The queue pair of this number is gone, with its member of the shared queues.
    Forget(u64, u32, Arc<Member>),
}

impl Command {
    /// There is no driver any more: it took everything down when it went.
    fn forsake(self) {
        if let Self::Accept(_, taker) = self {
            taker.fail(VerbsError::Closed);
        }
    }
}

impl Control {
    pub(crate) fn new(config: VerbsConfig) -> Result<Arc<Self>, VerbsError> {
        config.check()?;
        let channel = CmChannel::new().map_err(|error| VerbsError::os("open the connection manager", &error))?;
        let channel = Arc::new(channel);
        let device = Arc::new(Device::open(&config, &channel)?);
        let pool = Pool::new(&device.pd, config.arena_size(), config.pool_limit)?;
        let nudge = EventFd::new().map_err(|error| VerbsError::os("make an event descriptor", &error))?;
        let registrar = Registrar::new(&device.pd, config.region_cache);
        // In the order of the bits below.
        let fds = [nudge.as_raw_fd(), device.channel.as_raw_fd(), channel.fd(), async_fd(&device.context)];
        let readable = Readable::new(&fds).map_err(|error| VerbsError::os("wait for several descriptors", &error))?;
        Ok(Arc::new(Self {
            config,
            channel,
            registrar,
            pool,
            device,
            clock: Clock::new(),
            nudge,
            readable,
            state: Mutex::new(State { entries: Slab::new(), deadlines: BTreeSet::new() }),
            mailbox: Mailbox::new(),
            deadlines_changed: AtomicBool::new(false),
            handles: AtomicUsize::new(0),
        }))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.now()
    }

    /// When a handshake that begins now has to be over.
    pub(crate) fn handshake_deadline(&self) -> Duration {
        self.now() + self.config.handshake_timeout
    }

    fn is_driven(&self) -> bool {
        self.mailbox.is_driven()
    }

    pub(crate) fn leave(&self, command: Command) {
        if let Err(command) = self.mailbox.leave(command, || self.nudge.raise()) {
            command.forsake();
        }
    }
}

/// Keeps the driver going. The last one to be dropped tells it to end.
pub(crate) struct Handle(Arc<Control>);

impl Handle {
    fn new(control: &Arc<Control>) -> Self {
        control.handles.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(control))
    }

    pub(crate) fn control(&self) -> &Arc<Control> {
        &self.0
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(crate) fn is_driven(&self) -> bool {
        self.0.is_driven()
    }

    pub(crate) fn nudge(&self) {
        self.0.nudge.raise();
    }

    /// The driver has to look at the deadlines again, with a [`nudge`](Handle::nudge) if one came that may be the first.
    pub(crate) fn deadlines_changed(&self) {
        self.0.deadlines_changed.store(true, Ordering::Release);
    }

    pub(crate) fn leave(&self, command: Command) {
        self.0.leave(command);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.0.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.nudge.raise();
        }
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        Self::new(&self.0)
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("device", &self.0.device.name).finish_non_exhaustive()
    }
}

/// A track's claim on the driver: to be torn down when it is dropped.
pub(crate) struct Ticket {
    handle: Handle,
    token: u64,
}

impl Ticket {
    pub(crate) fn token(&self) -> u64 {
        self.token
    }

    pub(crate) fn timer(&self) -> VerbsTimer {
        VerbsTimer::new(self.handle.clone())
    }

    /// Ends the connection without waiting for anything.
    pub(crate) fn cut_off(&self) {
        self.handle.leave(Command::CutOff(self.token));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.handle.leave(Command::TearDown(self.token));
    }
}

/// The background work of one fabric, to be driven by its owner: see [`Drive`].
///
/// Dropping it ends all tracks, listeners and handshakes of the fabric.
pub struct VerbsDriver {
    control: Arc<Control>,
    /// The earliest deadline, kept because looking for it takes two locks.
    deadline: Option<Duration>,
}

impl VerbsDriver {
    pub(crate) fn new(control: &Arc<Control>) -> (Self, Handle) {
        (Self { control: Arc::clone(control), deadline: None }, Handle::new(control))
    }

    /// Drives until the last handle, track, listener and timer of the fabric is gone, and everything torn down. For a
    /// thread of one's own: pinned, or with a priority, or to be waited for.
    pub fn run(mut self) {
        while self.control.handles.load(Ordering::Acquire) > 0 {
            self.drive(None);
        }
        while self.read_mail() {}
    }

    fn next_deadline(&mut self) -> Option<Duration> {
        if self.control.deadlines_changed.load(Ordering::Relaxed) {
            self.find_deadline();
        }
        self.deadline
    }

    #[cold]
    fn find_deadline(&mut self) {
        // Before the look: what comes after it sets this again.
        self.control.deadlines_changed.swap(false, Ordering::AcqRel);
        let alarm = self.control.clock.next_deadline();
        let handshake = self.control.state().deadlines.first().map(|(deadline, _)| *deadline);
        self.deadline = match (alarm, handshake) {
            (Some(alarm), Some(handshake)) => Some(alarm.min(handshake)),
            (alarm, handshake) => alarm.or(handshake),
        };
    }

    #[inline]
    fn read_mail(&mut self) -> bool {
        self.control.mailbox.has_mail() && self.open_mail()
    }

    #[cold]
    fn open_mail(&mut self) -> bool {
        let control = Arc::clone(&self.control);
        control.deadlines_changed.store(true, Ordering::Release);
        control.mailbox.read(AT_ONCE, |command| self.obey(command));
        true
    }

    /// Wakes the sides whose completion queues have something.
    fn read_completions(&mut self) {
        while let Ok(Some(token)) = next_cq_event(&self.control.device.channel) {
            let mut state = self.control.state();
            let established = match state.entries.get_mut(token >> 1) {
                Some(Entry::Established(established)) => established,
                Some(Entry::Port(port)) => {
                    let port = Arc::clone(&port.port);
                    drop(state);
                    port.on_event(if token & 1 == 1 { Side::Recv } else { Side::Send });
                    continue;
                }
                Some(Entry::Shared(queue)) => {
                    let queue = Arc::clone(queue);
                    drop(state);
                    queue.on_event(if token & 1 == 1 { Side::Recv } else { Side::Send });
                    continue;
                }
                _ => continue,
            };
            let shared = Arc::clone(&established.conn.shared);
            let receive = token & 1 == 1;
            established.count_event(receive, ACK_BATCH);
            let few = state.entries.len() <= FEW;
            drop(state);
            if receive {
                shared.recv_armed.store(false, Ordering::Release);
                shared.recv_waker.wake();
            } else {
                shared.send_armed.store(false, Ordering::Release);
                shared.send_waker.wake();
                shared.done_waker.wake();
            }
            if few {
                return;
            }
        }
    }

    fn ring(&mut self) {
        let now = self.control.now();
        self.control.clock.ring(now);
        self.expire_handshakes(now);
        self.find_deadline();
    }
}

impl Drive for VerbsDriver {
    fn drive(&mut self, timeout: Option<Duration>) {
        // After either of these, events are looked at and not waited for: they come in turn with commands, however many.
        let mut wait = if self.read_mail() { Some(Duration::ZERO) } else { timeout };
        if let Some(deadline) = self.next_deadline() {
            let left = deadline.saturating_sub(self.control.now());
            if left.is_zero() {
                self.ring();
            }
            wait = Some(wait.map_or(left, |wait| wait.min(left)));
        }
        let ready = self.control.readable.wait(wait);
        if ready & NUDGED != 0 {
            self.control.nudge.clear();
            self.read_mail();
        }
        if ready & COMPLETIONS != 0 {
            self.read_completions();
        }
        if ready & CONNECTIONS != 0 {
            self.control.deadlines_changed.store(true, Ordering::Release);
            self.read_connections();
        }
        if ready & ASYNC_EVENTS != 0 {
            self.read_async_events();
        }
    }

    fn interrupter(&self) -> Waker {
        Waker::from(Arc::new(Interrupter(Arc::clone(&self.control))))
    }
}

struct Interrupter(Arc<Control>);

impl Wake for Interrupter {
    fn wake(self: Arc<Self>) {
        self.0.nudge.raise();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.nudge.raise();
    }
}

impl Drop for VerbsDriver {
    fn drop(&mut self) {
        self.control.mailbox.stop();
        let (entries, _) = {
            let mut state = self.control.state();
            (state.entries.drain(), std::mem::take(&mut state.deadlines))
        };
        for entry in entries {
            entry.shut();
        }
        self.control.mailbox.drain().into_iter().for_each(Command::forsake);
        self.control.clock.ring(Duration::MAX);
    }
}

impl std::fmt::Debug for VerbsDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerbsDriver").field("device", &self.control.device.name).finish_non_exhaustive()
    }
}
