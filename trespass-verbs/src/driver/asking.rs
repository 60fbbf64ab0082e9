//! Those who ask a port for datagrams: told at once, or by the user.
//!
//! Any request may be one that was made before, its answer lost: the same nonce gets the same answer.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::datagrams::{PortEntry, Role, make_track};
use super::entry::{Entry, ListenerShared, Request};
use super::handshake::{BUSY, REFUSED};
use super::{Control, State, Ticket, VerbsDriver};
use crate::datagram::{Datagrams, Hello, UnreliableTrack, Wanted, gid_of};
use crate::error::VerbsError;
use crate::hub::{Member, Source};
use crate::promise::Promise;
use crate::raw::ah::way_to;
use crate::raw::cm::{CmId, NewId, PrivateData};

/// Takes the requests for tracks of one queue pair.
pub(super) struct Listening {
    /// Destroyed with the entry.
    _id: CmId,
    datagrams: Arc<Datagrams>,
    pub(super) shared: Arc<ListenerShared>,
    /// The requests that wait for the user, by who asks: nonce and token. As many as the backlog.
    asking: HashMap<Source, (u64, u64)>,
    /// The tracks that were accepted, by who asked: the nonce, and what was answered. As many as there are seats.
    accepted: HashMap<Source, (u64, PrivateData, Arc<Member>)>,
    /// Whom the user refused, and the nonce: the latest, at most [`REFUSALS`].
    refused: VecDeque<(Source, u64)>,
}

/// How many refusals are remembered, to be said again where they were lost.
const REFUSALS: usize = 256;

/// A request that waits for the user.
pub(crate) struct Asking {
    pub(super) id: CmId,
    peer: SocketAddr,
    source: Source,
    hello: Hello,
    /// The port that was asked, by token.
    asked: u64,
    pub(super) deadline: Duration,
}

impl Listening {
    /// On `id`, for whoever holds the other end of `shared`.
    pub(super) fn new(id: CmId, datagrams: &Arc<Datagrams>, shared: &Arc<ListenerShared>) -> Box<Self> {
        let (asking, accepted, refused) = (HashMap::new(), HashMap::new(), VecDeque::new());
        let (datagrams, shared) = (Arc::clone(datagrams), Arc::clone(shared));
        Box::new(Self { _id: id, datagrams, shared, asking, accepted, refused })
    }

    /// Forgets a request that was answered or has gone away.
    fn forget(&mut self, asking: &Asking, token: u64) {
        self.shared.forget(token);
        if self.asking.get(&asking.source).is_some_and(|(_, asked)| *asked == token) {
            self.asking.remove(&asking.source);
        }
    }
}

impl VerbsDriver {
    /// Somebody asks the port at `token`.
    pub(super) fn asked(&mut self, token: u64, new: NewId, data: &PrivateData) {
        let control = Arc::clone(&self.control);
        let mut state = control.state();
        let request = state.entries.reserve();
        let Some(id) = CmId::adopt(new, &control.channel, request) else {
            state.entries.remove(request);
            return;
        };
        let ours = id.device_name().is_some_and(|name| name == control.device.name);
        let waits = match (Hello::parse(data), id.peer(), ours) {
            (Some(hello), Some(peer), true) => {
                let source = Source { gid: gid_of(peer.ip()), number: hello.number };
                let deadline = control.handshake_deadline();
                let asking = Asking { id, peer, source, hello, asked: token, deadline };
                self.consider(&mut state, asking, request)
            }
            _ => {
                let _ = id.reject(REFUSED);
                None
            }
        };
        if waits.is_none() {
            state.entries.remove(request);
        }
        drop(state);
        if let Some(listener) = waits {
            listener.waker.wake();
        }
    }

    /// Answers what needs no user, or has it wait for one: then the listener to wake is given.
    fn consider(&self, state: &mut State, asking: Asking, request: u64) -> Option<Arc<ListenerShared>> {
        let refuse = |id: &CmId, reason| {
            let _ = id.reject(reason);
            None
        };
        let Some(Entry::Port(entry)) = state.entries.get_mut(asking.asked) else { return refuse(&asking.id, REFUSED) };
        let listening = match (&mut entry.role, asking.hello.wanted) {
            (Role::Addressed { .. }, Wanted::Port) => {
                let mtu = entry.port.shape.mtu as u32;
                let (number, key) = (entry.port.qp.number(), entry.port.key);
                let answer = Hello { number, key, mtu, ..asking.hello };
                let _ = asking.id.answer(number, &answer.encode());
                return None;
            }
            (Role::Listening(listening), Wanted::Track) => listening,
            _ => return refuse(&asking.id, REFUSED),
        };
        let (nonce, source) = (asking.hello.nonce, asking.source);
        match listening.accepted.get(&source) {
            Some((accepted, answer, member)) if *accepted == nonce && !member.has_left() => {
                // The answer was lost.
                let _ = asking.id.answer(entry.port.qp.number(), answer);
                return None;
            }
            // The queue pair of somebody who has gone, with somebody new.
            Some((_, _, member)) if !member.has_left() => member.shared.end(None),
            _ => {}
        }
        if listening.refused.contains(&(source, nonce)) {
            // So was the refusal.
            return refuse(&asking.id, REFUSED);
        }
        if let Some((_, earlier)) = listening.asking.get(&source).copied().filter(|(asked, _)| *asked == nonce) {
            // The same again, before the user has answered: the answer goes to the later one. Dropping the other refuses
            // it, and nobody waits for that any more.
            if let Some(Entry::Asking(waiting)) = state.entries.get_mut(earlier) {
                if asking.hello.attempt > waiting.hello.attempt {
                    (waiting.id, waiting.hello) = (asking.id, asking.hello);
                }
            }
            return None;
        }
        let shared = Arc::clone(&listening.shared);
        if !shared.push(Request { token: request, peer: asking.peer }) {
            // One that is closed will have no room later, either.
            return refuse(&asking.id, if shared.is_open() { BUSY } else { REFUSED });
        }
        listening.asking.insert(source, (nonce, request));
        state.deadlines.insert((asking.deadline, request));
        state.entries.put(request, Entry::Asking(asking));
        Some(shared)
    }

    /// Says no to a request that is out of the table.
    pub(super) fn refuse_datagrams(&self, asking: &Asking, token: u64, reason: u8) {
        let _ = asking.id.reject(reason);
        if let Some(Entry::Port(PortEntry { role: Role::Listening(listening), .. })) =
            self.control.state().entries.get_mut(asking.asked)
        {
            listening.forget(asking, token);
            if reason == REFUSED {
                listening.refused.truncate(REFUSALS - 1);
                listening.refused.push_front((asking.source, asking.hello.nonce));
            }
        }
    }

    pub(super) fn accept_datagrams(&mut self, token: u64, promise: Arc<Promise<UnreliableTrack>>, ticket: Arc<Ticket>) {
        let control = Arc::clone(&self.control);
        let Some(Entry::Asking(asking)) = control.take(token) else {
            let limit = control.config.handshake_timeout;
            promise
                .resolve(Err(VerbsError::TimedOut { what: "the request was not accepted, or withdrawn: it", limit }));
            return;
        };
        let accepted = accept(&control, &asking, token, ticket);
        if let Err(error) = &accepted {
            let reason = if matches!(error, VerbsError::ResourceLimit { .. }) { BUSY } else { REFUSED };
            self.refuse_datagrams(&asking, token, reason);
        }
        drop(asking);
        promise.resolve(accepted);
    }
}

/// Takes a seat for whoever asks, and answers.
fn accept(
    control: &Arc<Control>,
    asking: &Asking,
    token: u64,
    ticket: Arc<Ticket>,
) -> Result<UnreliableTrack, VerbsError> {
    let (port, datagrams) = match control.state().entries.get_mut(asking.asked) {
        Some(Entry::Port(PortEntry { port, role: Role::Listening(listening), .. })) => {
            listening.forget(asking, token);
            (Arc::clone(port), Arc::clone(&listening.datagrams))
        }
        _ => return Err(VerbsError::Closed),
    };
    let member = port.sit(&datagrams.pools)?;
    let local = asking.id.local();
    let from = datagrams.address_of(local);
    let way = way_to(asking.source.gid.octets(), from.port, from.index, datagrams.shape.traffic_class);
    let ends = (local.unwrap_or(asking.peer), asking.peer);
    let built = (Arc::clone(&port), Arc::clone(&member));
    // Before the answer: what comes right after it finds its way.
    let track = make_track(control, built, asking.source, &asking.hello, way, ends, ticket)?;
    let number = port.qp.number();
    let answer = Hello { number, key: port.key, mtu: port.shape.mtu as u32, ..asking.hello }.encode();
    asking.id.answer(number, &answer).map_err(|error| VerbsError::os("accept", &error))?;
    if let Some(Entry::Port(PortEntry { role: Role::Listening(listening), .. })) =
        control.state().entries.get_mut(asking.asked)
    {
        listening.accepted.retain(|_, (_, _, member)| !member.has_left());
        listening.accepted.insert(asking.source, (asking.hello.nonce, answer, member));
    }
    Ok(track)
}
