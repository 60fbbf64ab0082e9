//! What all users of a channel share: its calls, its connection, and whoever looks after that.

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use trespass::carriers::{CarrierError, MessageCarrier, MessageOpening};
use trespass::core::{ErrorKind, Fabric, Role, Timer, TransportError, TryError};

use super::config::{CallOptions, ChannelConfig};
use crate::RpcFabric;
use crate::core::calls::{Calls, Ticket};
use crate::core::wire::{Fault, Frame, Hello};
use crate::hub::{Alarm, Hub};
use crate::link::{Link, each_frame};
use crate::method::Flow;
use crate::status::CallError;

/// How many messages one look takes in, so that nobody receives for others without end.
const BATCH: usize = 64;

pub(super) struct Shared<F: RpcFabric>(Mutex<State<F>>);

pub(super) struct State<F: RpcFabric> {
    fabric: F,
    addr: F::Addr,
    config: ChannelConfig,
    timer: F::Timer,
    pub(super) calls: Calls,
    link: Linking<F>,
    alarm: Alarm<F::Timer>,
    hub: Arc<Hub>,
    /// The hub, as the waker of all that the connection waits for.
    waker: Waker,
    leader: Option<Who>,
    /// How many drive it: then calls leave the lead to them.
    drivers: usize,
    /// Who comes again to flush.
    promised: Option<Who>,
    /// Connections that failed since one was good.
    failures: u32,
    chance: u64,
    closed: bool,
}

/// Somebody who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Reader(Ticket),
    Writer(Ticket),
    Driver,
    Closer,
}

enum Linking<F: RpcFabric> {
    /// No connection, and none wanted.
    Idle,
    /// The last one failed: not at once again.
    Resting(<F::Timer as Timer>::Sleep),
    Connecting(Pin<Box<F::Connecting>>),
    Opening(Pin<Box<MessageOpening<F::Track>>>),
    /// The greeting of this end is out, that of the server not in.
    Greeting {
        link: Link<F::Track>,
        limit: <F::Timer as Timer>::Sleep,
    },
    Up(Link<F::Track>),
    /// Goodbye is being said.
    Leaving(Link<F::Track>),
}

/// What one look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Look again.
    Again,
    /// There is nothing to do now.
    Wait,
}

impl<F: RpcFabric> Shared<F> {
    pub(super) fn new(fabric: F, addr: F::Addr, config: ChannelConfig) -> Self {
        let hub = Arc::new(Hub::default());
        let timer = fabric.timer();
        let own = Hello {
            max_calls: 0,
            window: config.window.clamp(1, i32::MAX as u32),
            max_message: config.max_message.max(1),
        };
        let chance = config.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        let state = State {
            calls: Calls::new(own, config.max_calls),
            link: Linking::Idle,
            alarm: Alarm::new(Arc::clone(&hub)),
            waker: Waker::from(Arc::clone(&hub)),
            hub,
            leader: None,
            drivers: 0,
            promised: None,
            failures: 0,
            chance,
            closed: false,
            fabric,
            addr,
            config,
            timer,
        };
        Self(Mutex::new(state))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<F>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: RpcFabric> State<F> {
    pub(super) fn open(
        &mut self,
        method: u32,
        flow: Flow,
        options: CallOptions,
        request: Vec<u8>,
    ) -> Result<Ticket, CallError> {
        if self.closed {
            return Err(CallError::Closed);
        }
        let limit = options.limit(self.config.deadline);
        let deadline = limit.map(|limit| self.timer.now().saturating_add(limit));
        self.calls.open(method, flow, deadline, request)
    }

    /// The call's owner is gone.
    pub(super) fn abandon(&mut self, ticket: Ticket) {
        self.calls.release(ticket);
        self.push();
        self.leave(Who::Reader(ticket));
        self.leave(Who::Writer(ticket));
    }

    /// Has what waits go out, as far as it can now.
    pub(super) fn push(&mut self) {
        if let Err(error) = self.write() {
            self.broke(error.kind());
        }
        if self.promised.is_none() {
            self.flush();
        }
    }

    /// Ends the interest of `who`; if it had the lead, somebody else gets it.
    pub(super) fn leave(&mut self, who: Who) {
        if self.promised == Some(who) {
            self.flush();
        }
        if self.leader == Some(who) {
            self.leader = None;
            if let Some(waker) = self.calls.somebody() {
                waker.wake_by_ref();
            }
        }
    }

    /// Looks after the connection for `who`, until `done` has something. While it has not, `who` is the one that is woken for all that
    /// happens to the connection.
    pub(super) fn poll<R>(
        &mut self,
        who: Who,
        cx: &mut Context<'_>,
        mut done: impl FnMut(&mut Self) -> Option<R>,
    ) -> Poll<R> {
        self.look();
        if let Some(result) = done(self) {
            self.flush_unless_promised(who);
            return Poll::Ready(result);
        }
        if self.drivers == 0 || who == Who::Driver {
            self.leader = Some(who);
            self.hub.task.register(cx.waker());
        }
        // Registered first, armed then, and looked at once more.
        let spent = self.arm();
        if let Some(result) = done(self) {
            self.flush_unless_promised(who);
            return Poll::Ready(result);
        }
        if self.flush_or_promise(who) || spent {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// The same for somebody who comes again anyway: nothing is armed.
    pub(super) fn try_poll<R>(&mut self, who: Who, mut done: impl FnMut(&mut Self) -> Option<R>) -> Poll<R> {
        self.look();
        let result = done(self);
        match result {
            Some(result) => {
                self.flush_unless_promised(who);
                Poll::Ready(result)
            }
            None => {
                self.flush_or_promise(who);
                Poll::Pending
            }
        }
    }

    /// Lets what was written go; but where calls have ended whose owners have yet to come, and perhaps to call again, that waits for them,
    /// as long as somebody promises to come after them. Whether `who` has just promised. So what many call at once goes together.
    fn flush_or_promise(&mut self, who: Who) -> bool {
        let unflushed = matches!(&self.link, Linking::Up(link) if link.is_unflushed());
        if !unflushed || self.calls.ripe() == 0 || self.promised == Some(who) {
            self.flush();
            return false;
        }
        let first = self.promised.is_none();
        self.promised.get_or_insert(who);
        first
    }

    /// The same for one that is about to go.
    fn flush_unless_promised(&mut self, who: Who) {
        if self.calls.ripe() == 0 || self.promised.is_none_or(|promised| promised == who) {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.promised = None;
        if let Linking::Up(link) = &mut self.link {
            if let Err(error) = link.flush() {
                self.broke(error.kind());
            }
        }
    }

    /// Does what there is to do, without a wait.
    fn look(&mut self) {
        let now = self.calls.earliest().map(|_| self.timer.now());
        if let Some(now) = now {
            self.calls.expire(now);
        }
        for _ in 0..BATCH {
            if self.step() == Step::Wait {
                return;
            }
        }
    }

    /// Has the hub woken when there is more to do. Whether there was so much that others should have their turn.
    fn arm(&mut self) -> bool {
        for _ in 0..BATCH {
            if self.alarm.is_due(&self.timer, self.calls.earliest()) {
                self.calls.expire(self.timer.now());
                continue;
            }
            let mut cx = Context::from_waker(&self.waker);
            let ready = match &mut self.link {
                Linking::Up(link) => {
                    let blocked = self.calls.has_output();
                    link.poll_recv_ready(&mut cx).is_ready() || (blocked && link.poll_write_ready(&mut cx).is_ready())
                }
                Linking::Greeting { link, limit } => {
                    link.poll_recv_ready(&mut cx).is_ready() || Pin::new(limit).poll(&mut cx).is_ready()
                }
                // A step registers the hub by itself.
                _ => true,
            };
            let registered = matches!(self.link, Linking::Up(_) | Linking::Greeting { .. });
            if !ready || (self.step() == Step::Wait && !registered) {
                return false;
            }
        }
        true
    }

    fn step(&mut self) -> Step {
        let mut cx = Context::from_waker(&self.waker);
        match &mut self.link {
            Linking::Idle if self.calls.wants_connection() && !self.closed => self.connect(),
            Linking::Idle => Step::Wait,
            Linking::Resting(sleep) => match Pin::new(sleep).poll(&mut cx) {
                Poll::Ready(()) => self.to(Linking::Idle),
                Poll::Pending => Step::Wait,
            },
            Linking::Connecting(connecting) => match connecting.as_mut().poll(&mut cx) {
                Poll::Ready(Ok(track)) => {
                    let opening = MessageCarrier::open(track, Role::Connector, self.config.carrier.clone());
                    self.to(Linking::Opening(Box::pin(opening)))
                }
                Poll::Ready(Err(_)) => self.failed(),
                Poll::Pending => Step::Wait,
            },
            Linking::Opening(opening) => match opening.as_mut().poll(&mut cx) {
                Poll::Ready(Ok(carrier)) => self.greet(carrier),
                Poll::Ready(Err(_)) => self.failed(),
                Poll::Pending => Step::Wait,
            },
            Linking::Greeting { link, limit } => match link.try_recv() {
                Ok(Some(message)) => self.greeted(&message),
                Ok(None) | Err(TryError::Failed(_)) => self.failed(),
                Err(TryError::WouldBlock) => match Pin::new(limit).poll(&mut cx) {
                    Poll::Ready(()) => self.failed(),
                    Poll::Pending => Step::Wait,
                },
            },
            Linking::Up(_) => self.exchange(),
            Linking::Leaving(link) => match link.poll_close(&mut cx) {
                Poll::Ready(_) => self.to(Linking::Idle),
                Poll::Pending => Step::Wait,
            },
        }
    }

    fn to(&mut self, link: Linking<F>) -> Step {
        self.link = link;
        Step::Again
    }

    fn connect(&mut self) -> Step {
        let connecting = self.fabric.connect(&self.addr);
        self.to(Linking::Connecting(Box::pin(connecting)))
    }

    fn greet(&mut self, carrier: MessageCarrier<F::Track>) -> Step {
        let Some(mut link) = Link::new(carrier) else { return self.failed() };
        let said = link.write_one(&Frame::Hello(self.calls.hello())).and_then(|written| {
            link.flush()?;
            Ok(written)
        });
        match said {
            Ok(true) => {
                let limit = self.timer.sleep(self.config.carrier.open_timeout);
                self.to(Linking::Greeting { link, limit })
            }
            // A new connection has room for a first message.
            Ok(false) | Err(_) => self.failed(),
        }
    }

    fn greeted(&mut self, message: &[u8]) -> Step {
        let Linking::Greeting { mut link, .. } = std::mem::replace(&mut self.link, Linking::Idle) else {
            return Step::Again;
        };
        let mut hello = None;
        let calls = &mut self.calls;
        let greeted = each_frame(message, |frame| match (frame, hello) {
            (Frame::Hello(said), None) => {
                hello = Some(said);
                calls.connected(said)
            }
            (frame, Some(_)) => calls.on_frame(frame),
            (_, None) => Err(Fault::Hello),
        });
        match greeted {
            Ok(()) => self.to(Linking::Up(link)),
            Err(fault) => {
                let _ = link.write_one(&Frame::Fault(fault.number())).and_then(|_| link.flush());
                self.calls.disconnected(ErrorKind::Protocol);
                self.failed()
            }
        }
    }

    /// Takes in what has arrived, and writes what is to go.
    fn exchange(&mut self) -> Step {
        let Linking::Up(link) = &mut self.link else { return Step::Again };
        let message = match link.try_recv() {
            Ok(Some(message)) => Some(message),
            Ok(None) => return self.broke(ErrorKind::Closed),
            Err(TryError::Failed(error)) => return self.broke(error.kind()),
            Err(TryError::WouldBlock) => None,
        };
        if let Some(message) = &message {
            let calls = &mut self.calls;
            if let Err(fault) = each_frame(message, |frame| calls.on_frame(frame)) {
                return self.fault(fault);
            }
            // It answers: so it is a good one.
            self.failures = 0;
        }
        let written = self.write();
        match (message, written) {
            (_, Err(error)) => self.broke(error.kind()),
            _ if self.calls.may_leave() => self.part(),
            (Some(_), Ok(())) => Step::Again,
            (None, Ok(())) => Step::Wait,
        }
    }

    fn write(&mut self) -> Result<(), CarrierError<<F as Fabric>::Error>> {
        let Linking::Up(link) = &mut self.link else { return Ok(()) };
        if !self.calls.has_output() {
            return Ok(());
        }
        let (calls, timer) = (&mut self.calls, &self.timer);
        match link.write(|room| calls.fill(room, || timer.now())) {
            Ok(()) | Err(TryError::WouldBlock) => Ok(()),
            Err(TryError::Failed(error)) => Err(error),
        }
    }

    /// Says goodbye to a server that drains, or because this end closes.
    fn part(&mut self) -> Step {
        match std::mem::replace(&mut self.link, Linking::Idle) {
            Linking::Up(link) => {
                self.calls.disconnected(ErrorKind::Closed);
                self.to(Linking::Leaving(link))
            }
            Linking::Leaving(link) => self.to(Linking::Leaving(link)),
            _ => Step::Again,
        }
    }

    /// The server broke the protocol: it is told, and the connection ends.
    #[cold]
    fn fault(&mut self, fault: Fault) -> Step {
        if let Linking::Up(link) = &mut self.link {
            let _ = link.write_one(&Frame::Fault(fault.number())).and_then(|_| link.flush());
        }
        self.broke(ErrorKind::Protocol)
    }

    /// The connection ended.
    #[cold]
    fn broke(&mut self, kind: ErrorKind) -> Step {
        self.calls.disconnected(kind);
        self.promised = None;
        self.failed()
    }

    /// No connection: the next one after a rest, where this one was not good.
    fn failed(&mut self) -> Step {
        let failures = self.failures;
        self.failures = failures.saturating_add(1);
        if failures == 0 && matches!(self.link, Linking::Up(_)) {
            return self.to(Linking::Idle);
        }
        let doubled = self.config.first_rest.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX));
        let rest = doubled.min(self.config.longest_rest);
        let rest = rest.mul_f64(0.5 + 0.5 * self.chance());
        let sleep = self.timer.sleep(rest);
        self.to(Linking::Resting(sleep))
    }

    /// From 0 to 1.
    fn chance(&mut self) -> f64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn drive(&mut self) {
        self.drivers += 1;
    }

    pub(super) fn undrive(&mut self) {
        self.drivers -= 1;
        self.leave(Who::Driver);
    }

    /// No calls any more, and goodbye. Ready when that is said, or not to be said.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !std::mem::replace(&mut self.closed, true) {
            self.calls.close();
            let _ = self.write();
            match self.link {
                Linking::Up(_) => drop(self.part()),
                _ => self.link = Linking::Idle,
            }
        }
        self.poll(Who::Closer, cx, |state| matches!(state.link, Linking::Idle).then_some(()))
    }
}
