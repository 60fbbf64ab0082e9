//! Connections coming up and going down: what each event and each command does to an entry.
//!
//! Every step is taken by the driver alone, with the entry out of the table: a step that fails has everything in its
//! hands, and dropping that undoes what was built, queue pair first.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use trespass_core::Limits;

use super::again::passes;
use super::entry::{Entry, Established, Pausing, Queues, Request, Requested, Resolving, Taker, Waiting};
use super::failures::{Failed, REMOVED};
use super::setup::bring_up;
use super::{AT_ONCE, Command, Handle, Ticket, VerbsDriver};
use crate::error::VerbsError;
use crate::hub::Supply;
use crate::raw::cm::{CmEvent, CmEventKind, CmId, NewId};
use crate::shared::SharedTrack;
use crate::track::ReliableTrack;
use crate::track::conn::Sharing;

/// Why a request was rejected, as the first byte of the private data. Programs that send none mean the same as zero.
pub(super) const REFUSED: u8 = 0;
pub(super) const BUSY: u8 = 1;
/// Nobody accepted it in time.
pub(super) const EXPIRED: u8 = 2;

impl VerbsDriver {
    /// Takes connection events, until enough of them were dear.
    #[cold]
    pub(super) fn read_connections(&mut self) {
        let mut dear = 0;
        while dear < AT_ONCE {
            let Ok(Some(event)) = self.control.channel.next_event() else { return };
            dear += usize::from(matches!(event.what, CmEventKind::RouteResolved | CmEventKind::Accepted));
            self.handle(event);
        }
    }

    fn handle(&mut self, event: CmEvent) {
        if self.is_of_datagrams(&event) {
            return self.handle_datagrams(event);
        }
        let CmEvent { token, status, what } = event;
        match what {
            CmEventKind::Request { id, responder_resources, initiator_depth } => {
                self.requested(token, id, responder_resources, initiator_depth);
            }
            CmEventKind::AddrResolved => self.addr_resolved(token),
            CmEventKind::AddrUnresolved => self.addr_unresolved(token, status),
            CmEventKind::RouteResolved => self.route_resolved(token),
            CmEventKind::Accepted => self.accepted(token),
            CmEventKind::Established => self.established(token),
            CmEventKind::Rejected { reason } if reason == Some(BUSY) || passes(status) => self.try_later(token),
            CmEventKind::Rejected { reason } => {
                let limit = self.control.config.handshake_timeout;
                self.fail(token, |peer| match reason {
                    Some(EXPIRED) => VerbsError::TimedOut { what: "the handshake", limit },
                    _ => VerbsError::Refused { peer },
                });
            }
            CmEventKind::Unreachable => {
                let why = std::io::Error::from_raw_os_error(status.abs()).to_string();
                self.fail(token, |peer| VerbsError::Unreachable { peer, why });
            }
            CmEventKind::Failed => {
                let why = std::io::Error::from_raw_os_error(status.abs()).to_string();
                self.fail(token, |_| VerbsError::Device { action: "connect", why });
            }
            CmEventKind::Disconnected => self.disconnected(token),
            CmEventKind::DeviceRemoved => self.fail_all_of(Failed::Device, REMOVED),
            CmEventKind::DatagramRequest { .. }
            | CmEventKind::DatagramAnswer { .. }
            | CmEventKind::DatagramRefused { .. }
            | CmEventKind::Other => {}
        }
    }

    fn requested(&mut self, listener: u64, id: NewId, responder_resources: u8, initiator_depth: u8) {
        let mut state = self.control.state();
        let token = state.entries.reserve();
        let Some(id) = CmId::adopt(id, &self.control.channel, token) else {
            state.entries.remove(token);
            return;
        };
        let shared = match state.entries.get_mut(listener) {
            Some(Entry::Listening(listening)) => Some(Arc::clone(&listening.shared)),
            _ => None,
        };
        let ours = id.device_name().is_some_and(|name| name == self.control.device.name);
        let (Some(shared), Some(peer), true) = (shared, id.peer(), ours) else {
            state.entries.remove(token);
            let _ = id.reject(REFUSED);
            return;
        };
        if !shared.push(Request { token, peer }) {
            state.entries.remove(token);
            let _ = id.reject(if shared.is_open() { BUSY } else { REFUSED });
            return;
        }
        let deadline = self.control.handshake_deadline();
        let requested =
            Requested { id, peer, listener: Arc::clone(&shared), responder_resources, initiator_depth, deadline };
        state.entries.put(token, Entry::Requested(requested));
        state.deadlines.insert((deadline, token));
        drop(state);
        shared.waker.wake();
    }

    fn addr_resolved(&mut self, token: u64) {
        let control = Arc::clone(&self.control);
        let mut state = control.state();
        let Some(Entry::Resolving(resolving)) = state.entries.get_mut(token) else { return };
        let name = resolving.id.device_name().unwrap_or_default();
        if name != control.device.name {
            drop(state);
            let ours = &control.device.name;
            self.fail(token, |peer| VerbsError::Unreachable {
                peer,
                why: format!(
                    "the way there is through {name}, and this fabric is on {ours}; open it with_local or with_device"
                ),
            });
            return;
        }
        let resolved = resolving.id.resolve_route(control.config.handshake_timeout);
        drop(state);
        if let Err(error) = resolved {
            self.fail(token, |peer| VerbsError::Unreachable { peer, why: error.to_string() });
        }
    }

    /// Tries again where only time was up: the deadline of the handshake ends that.
    fn addr_unresolved(&mut self, token: u64, status: i32) {
        let control = Arc::clone(&self.control);
        let mut state = control.state();
        let Some(Entry::Resolving(resolving)) = state.entries.get_mut(token) else { return };
        let again = match status.abs() {
            libc::ETIMEDOUT => control.resolve(&resolving.id, resolving.peer),
            errno => {
                let why = std::io::Error::from_raw_os_error(errno).to_string();
                Err(VerbsError::Unreachable { peer: resolving.peer, why })
            }
        };
        drop(state);
        if let Err(error) = again {
            self.fail(token, |_| error);
        }
    }

    fn route_resolved(&mut self, token: u64) {
        let control = Arc::clone(&self.control);
        let mut state = control.state();
        // Looked at before it is taken: anything else at this token is not for this event.
        let Some(Entry::Resolving(_)) = state.entries.get_mut(token) else { return };
        let Some(Entry::Resolving(Resolving { id, peer, taker, deadline, tries })) = state.entries.take(token) else {
            return;
        };
        let begun = control.build(id, token, peer, &taker).and_then(|queues| {
            match queues.conn().id.connect(&mut control.param(&queues)) {
                Ok(()) => Ok(queues),
                Err(error) => Err(VerbsError::Unreachable { peer, why: error.to_string() }),
            }
        });
        match begun {
            Ok(queues) => {
                let waiting = Waiting { queues, peer, taker, deadline, tries: Some(tries) };
                state.entries.put(token, Entry::Waiting(Box::new(waiting)));
            }
            Err(error) => {
                state.entries.remove(token);
                state.deadlines.remove(&(deadline, token));
                drop(state);
                taker.fail(error);
            }
        }
    }

    /// The peer accepted our connect: the queue pair goes up, and the peer is told.
    fn accepted(&mut self, token: u64) {
        let control = Arc::clone(&self.control);
        let mut state = control.state();
        let Some(Entry::Waiting(waiting)) = state.entries.get_mut(token) else { return };
        let conn = Arc::clone(waiting.queues.conn());
        let up = bring_up(&conn, &control)
            .and_then(|()| conn.id.establish().map_err(|error| VerbsError::os("establish the connection", &error)));
        drop(state);
        drop(conn);
        match up {
            Ok(()) => self.established(token),
            Err(error) => self.fail(token, |_| error),
        }
    }

    fn established(&mut self, token: u64) {
        let control = Arc::clone(&self.control);
        let mut state = control.state();
        let Some(Entry::Waiting(_)) = state.entries.get_mut(token) else { return };
        let Some(Entry::Waiting(waiting)) = state.entries.take(token) else { return };
        let Waiting { queues, taker, deadline, .. } = *waiting;
        state.deadlines.remove(&(deadline, token));
        state.entries.put(token, Entry::Established(Established::new(Arc::clone(queues.conn()))));
        drop(state);
        let ticket = Ticket { handle: Handle::new(&control), token };
        let config = &control.config;
        match (queues, taker) {
            (Queues::Own(queues), Taker::Own(promise)) => {
                let (send, recv) = *queues;
                let limits = Limits::new(config.max_message, config.send_slots, config.recv_slots)
                    .with_inline(control.device.depths.inline as usize);
                promise.resolve(Ok(ReliableTrack::new(send, recv, limits, config.close_timeout, ticket)));
            }
            (Queues::Shared(conn, member), Taker::Shared(promise, claim)) => {
                promise.resolve(Ok(SharedTrack::new(conn, member, config.close_timeout, ticket, claim)));
            }
            // What was built is what the taker asked for.
            (_, taker) => taker.fail(VerbsError::Closed),
        }
    }

    fn disconnected(&mut self, token: u64) {
        let conn = match self.control.state().entries.get_mut(token) {
            Some(Entry::Established(established)) => Some(Arc::clone(&established.conn)),
            _ => None,
        };
        match conn {
            // Answers the peer, flushes what is posted, and wakes both sides, which then take what had arrived.
            Some(conn) => conn.end(None),
            None => self
                .fail(token, |peer| VerbsError::Unreachable { peer, why: "it went away during the handshake".into() }),
        }
    }

    /// A handshake has failed.
    pub(super) fn fail(&mut self, token: u64, error: impl FnOnce(SocketAddr) -> VerbsError) {
        let is_handshake = self.control.state().entries.get_mut(token).is_some_and(|entry| entry.deadline().is_some());
        if !is_handshake {
            return;
        }
        match self.control.take(token) {
            Some(Entry::Resolving(Resolving { id, peer, taker, .. })) => {
                drop(id);
                taker.fail(error(peer));
            }
            Some(Entry::Pausing(Pausing { peer, taker, .. })) => taker.fail(error(peer)),
            Some(Entry::Waiting(waiting)) => {
                let Waiting { queues, peer, taker, .. } = *waiting;
                queues.conn().end(None);
                drop(queues);
                taker.fail(error(peer));
            }
            Some(Entry::Requested(requested)) => requested.listener.forget(token),
            _ => {}
        }
    }

    pub(super) fn expire_handshakes(&mut self, now: Duration) {
        loop {
            let due = self.control.state().deadlines.first().copied().filter(|(deadline, _)| *deadline <= now);
            let Some((deadline, token)) = due else { return };
            self.control.state().deadlines.remove(&(deadline, token));
            if self.step_datagrams(token, now) {
                continue;
            }
            let limit = self.control.config.handshake_timeout;
            let busy = |peer| VerbsError::Busy { peer };
            let nobody =
                |peer| VerbsError::Unreachable { peer, why: format!("nobody there answered within {limit:?}") };
            let late = |_| VerbsError::TimedOut { what: "the handshake", limit };
            let mut state = self.control.state();
            let error: &dyn Fn(SocketAddr) -> VerbsError = match state.entries.get_mut(token) {
                Some(Entry::Pausing(_)) => {
                    drop(state);
                    self.try_again(token);
                    continue;
                }
                Some(Entry::Requested(requested)) => {
                    let _ = requested.id.reject(EXPIRED);
                    &late
                }
                // Who was told to come again, and has, was kept waiting by that.
                Some(Entry::Resolving(resolving)) if resolving.tries > 0 => &busy,
                Some(Entry::Waiting(waiting)) if waiting.tries.is_some_and(|tries| tries > 0) => &busy,
                Some(Entry::Resolving(_)) => &nobody,
                _ => &late,
            };
            drop(state);
            self.fail(token, error);
        }
    }

    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Accept(token, taker) => self.accept(token, taker),
            Command::AcceptDatagrams(token, promise, ticket) => self.accept_datagrams(token, promise, ticket),
            Command::Refuse(token) => self.turn_away(token, REFUSED),
            Command::PutOff(token) => self.turn_away(token, BUSY),
            Command::Cancel(token) => match self.control.take(token) {
                Some(Entry::Waiting(waiting)) => waiting.queues.conn().end(None),
                Some(Entry::Established(established)) => tear_down(established),
                Some(Entry::Port(port)) => port.shut(),
                _ => {}
            },
            Command::CutOff(token) => {
                let conn = match self.control.state().entries.get_mut(token) {
                    Some(Entry::Established(established)) => Arc::clone(&established.conn),
                    _ => return,
                };
                conn.end(None);
            }
            Command::TearDown(token) => match self.control.take(token) {
                Some(Entry::Established(established)) => tear_down(established),
                Some(Entry::Port(port)) => port.shut(),
                Some(Entry::Shared(queue)) => drop(queue),
                _ => {}
            },
            Command::Forget(token, number, member) => {
                if let Some(queue) = self.control.shared(token) {
                    queue.forget(number, &member);
                }
            }
            Command::Refill(token) => self.refill(token),
        }
    }

    /// Says no to a request, and why.
    fn turn_away(&mut self, token: u64, reason: u8) {
        match self.control.take(token) {
            Some(Entry::Requested(requested)) => {
                let _ = requested.id.reject(reason);
            }
            Some(Entry::Asking(asking)) => self.refuse_datagrams(&asking, token, reason),
            _ => {}
        }
    }

    fn accept(&mut self, token: u64, taker: Taker) {
        let control = Arc::clone(&self.control);
        let mut state = control.state();
        let requested = match state.entries.get_mut(token) {
            Some(Entry::Requested(_)) => state.entries.take(token),
            _ => None,
        };
        let Some(Entry::Requested(Requested { id, peer, responder_resources, initiator_depth, deadline, .. })) =
            requested
        else {
            drop(state);
            let limit = control.config.handshake_timeout;
            taker.fail(VerbsError::TimedOut { what: "the request was not accepted, or withdrawn: it", limit });
            return;
        };
        let accepted = control.build(id, token, peer, &taker).and_then(|queues| {
            let conn = queues.conn();
            bring_up(conn, &control)?;
            let mut param = control.param(&queues);
            param.responder_resources = param.responder_resources.min(initiator_depth);
            param.initiator_depth = param.initiator_depth.min(responder_resources);
            conn.id.accept(&mut param).map_err(|error| VerbsError::os("accept", &error))?;
            Ok(queues)
        });
        match accepted {
            Ok(queues) => {
                let waiting = Waiting { queues, peer, taker, deadline, tries: None };
                state.entries.put(token, Entry::Waiting(Box::new(waiting)));
            }
            Err(error) => {
                state.entries.remove(token);
                state.deadlines.remove(&(deadline, token));
                drop(state);
                taker.fail(error);
            }
        }
    }
}

fn tear_down(mut established: Established) {
    established.conn.end(None);
    established.ack_all();
    if let Some(Sharing { queue, .. }) = &established.conn.sharing {
        // Some devices forget what came to a queue pair and was not looked at when that is destroyed.
        queue.look_now();
    }
}
