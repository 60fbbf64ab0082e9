//! The client's end: the calls of a channel, those that wait for a connection and those that are on one.

use std::collections::VecDeque;
use std::task::{Poll, Waker};
use std::time::Duration;

use trespass::core::ErrorKind;

use super::Waiter;
use super::flow::{Buffers, Inbound, Outgoing, SendWindow};
use super::wire::{CallId, End, Fault, Frame, Hello, LEAST_ROOM, Piece, write};
use crate::method::Flow;
use crate::status::{CallError, Ran, Rejection};

/// A call of this channel. Its owner gives it back with [`Calls::release`].
pub(crate) type Ticket = u32;

/// All calls of a channel.
#[derive(Debug)]
pub(crate) struct Calls {
    own: Hello,
    most: usize,
    calls: Vec<Call>,
    free: Vec<Ticket>,
    /// Those that no connection has taken yet, first in, first out; and some that are gone.
    waiting: VecDeque<(Ticket, u64)>,
    /// How many of them wait.
    waits: usize,
    /// The connection, if there is one.
    session: Option<Session>,
    buffers: Buffers,
    /// No call's deadline is before this.
    earliest: Option<Duration>,
    /// How many have ended, and their owners have not looked yet.
    ripe: usize,
    serials: u64,
    /// Where to look for somebody who waits.
    cursor: usize,
}

#[derive(Debug)]
struct Session {
    peer: Hello,
    places: Vec<Place>,
    free: Vec<u16>,
    /// Whose turn it is to send.
    ready: VecDeque<u16>,
    controls: VecDeque<Control>,
    /// The server drains.
    leaving: bool,
}

/// What has an index on the connection.
#[derive(Debug, Default)]
struct Place {
    generation: u64,
    ticket: Option<Ticket>,
    queued: bool,
}

#[derive(Debug)]
enum Control {
    Cancel(CallId),
    Credit(CallId, u32),
}

#[derive(Debug)]
struct Call {
    /// Tells it from others that had its ticket.
    serial: u64,
    phase: Phase,
    flow: Flow,
    deadline: Option<Duration>,
    out: Outgoing,
    /// No more requests come, and the server is to hear of it.
    done: bool,
    window: SendWindow,
    inbound: Inbound,
    ran: Ran,
    reader: Waiter,
    writer: Waiter,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Free,
    /// Never sent.
    Waiting,
    /// On the connection, at this index.
    Open(u16),
    /// Over; and whether its owner knows.
    Ended(Result<(), CallError>, bool),
}

impl Calls {
    /// No calls yet, and never more than `most` at once.
    pub(crate) fn new(own: Hello, most: usize) -> Self {
        Self {
            own,
            most,
            calls: Vec::new(),
            free: Vec::new(),
            waiting: VecDeque::new(),
            waits: 0,
            session: None,
            buffers: Buffers::default(),
            earliest: None,
            ripe: 0,
            serials: 0,
            cursor: 0,
        }
    }

    /// How many places the calls that wait take.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.waiting.len()
    }

    /// What to greet a server with.
    pub(crate) fn hello(&self) -> Hello {
        self.own
    }

    /// A call more, which waits to be sent.
    pub(crate) fn open(
        &mut self,
        method: u32,
        flow: Flow,
        deadline: Option<Duration>,
        request: Vec<u8>,
    ) -> Result<Ticket, CallError> {
        let ticket = match self.free.pop() {
            Some(ticket) => ticket,
            None if self.calls.len() < self.most => {
                self.calls.push(Call::free());
                (self.calls.len() - 1) as Ticket
            }
            None => return Err(CallError::Busy),
        };
        self.serials += 1;
        let serial = self.serials;
        if let Some(call) = self.calls.get_mut(ticket as usize) {
            call.serial = serial;
            call.phase = Phase::Waiting;
            (call.flow, call.deadline, call.done, call.ran) = (flow, deadline, false, Ran::No);
            call.out.call(method, request);
            call.inbound.reset(self.own.window);
        }
        self.earliest = [self.earliest, deadline].into_iter().flatten().min();
        self.waiting.push_back((ticket, serial));
        self.waits += 1;
        if self.waiting.len() > 2 * self.waits + 64 {
            let calls = &self.calls;
            self.waiting.retain(|(ticket, serial)| is_waiting(calls, *ticket, *serial));
        }
        Ok(ticket)
    }

    /// Its owner is no longer there: a call that goes on is cancelled.
    pub(crate) fn release(&mut self, ticket: Ticket) {
        self.end(ticket, Err(CallError::Closed), true);
        let Some(call) = self.calls.get_mut(ticket as usize) else { return };
        if let Phase::Ended(_, false) = call.phase {
            self.ripe -= 1;
        }
        call.phase = Phase::Free;
        call.inbound.clear(&mut self.buffers);
        call.reader.forget();
        call.writer.forget();
        self.free.push(ticket);
    }

    /// Gives a call up, which its owner goes on to look at.
    pub(crate) fn cancel(&mut self, ticket: Ticket, error: CallError) {
        self.end(ticket, Err(error), true);
    }

    /// Ends a call that has not, once. The server is told where it does not know.
    fn end(&mut self, ticket: Ticket, how: Result<(), CallError>, tell: bool) {
        let Some(call) = self.calls.get_mut(ticket as usize) else { return };
        match call.phase {
            Phase::Free | Phase::Ended(..) => return,
            Phase::Waiting => self.waits -= 1,
            Phase::Open(index) => {
                if let Some((session, place)) = self.session.as_mut().and_then(|session| session.vacate(index)) {
                    if tell {
                        session.controls.push_back(Control::Cancel(place));
                    }
                }
            }
        }
        call.phase = Phase::Ended(how, false);
        self.ripe += 1;
        call.out.clear(&mut self.buffers);
        call.reader.wake();
        call.writer.wake();
    }

    /// A connection is there. `Err` where the server takes no calls at all.
    pub(crate) fn connected(&mut self, peer: Hello) -> Result<(), Fault> {
        if peer.max_calls == 0 {
            return Err(Fault::Hello);
        }
        let places = (0..peer.max_calls).map(|_| Place::default()).collect();
        let free = (0..peer.max_calls).rev().collect();
        let (ready, controls) = (VecDeque::new(), VecDeque::new());
        self.session = Some(Session { peer, places, free, ready, controls, leaving: false });
        Ok(())
    }

    /// It is there no more: the calls that were on it end.
    pub(crate) fn disconnected(&mut self, kind: ErrorKind) {
        let Some(session) = self.session.take() else { return };
        for ticket in session.places.iter().filter_map(|place| place.ticket) {
            let Some(call) = self.calls.get_mut(ticket as usize) else { continue };
            if call.out.is_busy() && call.out.is_untouched() && call.ran == Ran::No {
                // Never sent: the next connection will do.
                call.phase = Phase::Waiting;
                self.waiting.push_back((ticket, call.serial));
                self.waits += 1;
                continue;
            }
            let ran = call.ran;
            self.end(ticket, Err(CallError::Disconnected { kind, ran }), false);
        }
    }

    /// All calls end.
    pub(crate) fn close(&mut self) {
        for ticket in 0..self.calls.len() as Ticket {
            let how = match self.calls.get(ticket as usize) {
                Some(Call { phase: Phase::Open(_), ran, .. }) => {
                    CallError::Disconnected { kind: ErrorKind::Closed, ran: *ran }
                }
                _ => CallError::Closed,
            };
            self.end(ticket, Err(how), true);
        }
    }

    /// Calls wait for a connection.
    pub(crate) fn wants_connection(&self) -> bool {
        self.waits > 0
    }

    /// The server wants this end to go, and there is nothing left to wait for.
    pub(crate) fn may_leave(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.leaving && session.free.len() == session.places.len())
    }

    pub(crate) fn has_output(&self) -> bool {
        self.session.as_ref().is_some_and(|session| {
            !session.controls.is_empty() || !session.ready.is_empty() || (session.takes_calls() && self.waits > 0)
        })
    }

    /// Calls have ended, and their owners will come for them.
    pub(crate) fn ripe(&self) -> usize {
        self.ripe
    }

    /// What a frame of the server comes to.
    pub(crate) fn on_frame(&mut self, frame: Frame<'_>) -> Result<(), Fault> {
        let Some(session) = &mut self.session else { return Err(Fault::Place) };
        let most = self.own.max_message as usize;
        match frame {
            Frame::Item(id, piece) => self.arrived(id, piece, |call, buffers| call.inbound.begin(piece, most, buffers)),
            Frame::Part(id, piece) => self.arrived(id, piece, |call, _| call.inbound.part(piece, most)),
            Frame::End(id, end) => {
                let Some(ticket) = session.ticket(id)? else { return Ok(()) };
                let call = self.calls.get_mut(ticket as usize).ok_or(Fault::Place)?;
                let how = match end {
                    // The one reply is the only good end there.
                    End::Ok if !call.flow.replies => return Err(Fault::Place),
                    End::Ok => call.inbound.finish(),
                    End::Service(_) | End::Rejected(_) => Ok(()),
                };
                how?;
                let how = match end {
                    End::Ok => Ok(()),
                    End::Service(status) => Err(CallError::Service(status)),
                    // One deadline, whichever clock was first.
                    End::Rejected(Rejection::DeadlineExceeded) => {
                        Err(CallError::DeadlineExceeded { ran: Rejection::DeadlineExceeded.ran() })
                    }
                    End::Rejected(rejection) => Err(CallError::Rejected(rejection)),
                };
                self.end(ticket, how, false);
                Ok(())
            }
            Frame::Credit(id, bytes) => {
                let window = session.peer.window;
                let Some(ticket) = session.ticket(id)? else { return Ok(()) };
                let call = self.calls.get_mut(ticket as usize).ok_or(Fault::Place)?;
                call.writer.wake();
                match call.flow.requests {
                    true => call.window.credit(bytes, window),
                    false => Err(Fault::Place),
                }
            }
            Frame::Leave => {
                session.leaving = true;
                Ok(())
            }
            Frame::Fault(number) => Err(Fault::Told(number)),
            Frame::Hello(_) | Frame::Call { .. } | Frame::Done(_) | Frame::Cancel(_) => Err(Fault::Place),
        }
    }

    fn arrived(
        &mut self,
        id: CallId,
        piece: Piece<'_>,
        take: impl FnOnce(&mut Call, &mut Buffers) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let Some(session) = &mut self.session else { return Err(Fault::Place) };
        let Some(ticket) = session.ticket(id)? else { return Ok(()) };
        let call = self.calls.get_mut(ticket as usize).ok_or(Fault::Place)?;
        take(call, &mut self.buffers)?;
        match piece {
            Piece { more: true, .. } => {}
            Piece { last: true, .. } => self.end(ticket, Ok(()), false),
            Piece { .. } if !call.flow.replies => return Err(Fault::Place),
            Piece { .. } => call.reader.wake(),
        }
        Ok(())
    }

    /// Fills `room`, of [`LEAST_ROOM`] bytes or more, with frames: how many bytes.
    pub(crate) fn fill(&mut self, room: &mut [u8], now: impl Fn() -> Duration) -> usize {
        let mut filled = 0;
        while let Some(rest) = room.get_mut(filled..).filter(|rest| rest.len() >= LEAST_ROOM) {
            filled += match self.emit(rest, &now) {
                0 => break,
                written => written,
            };
        }
        filled
    }

    fn emit(&mut self, room: &mut [u8], now: impl Fn() -> Duration) -> usize {
        loop {
            let Some(session) = &mut self.session else { return 0 };
            if let Some(control) = session.controls.pop_front() {
                let frame = match control {
                    Control::Cancel(id) => Frame::Cancel(id),
                    Control::Credit(id, bytes) => Frame::Credit(id, bytes),
                };
                return write(room, &frame).unwrap_or(0);
            }
            // Those that wait get a turn among those that are under way.
            self.begin();
            let index = self.session.as_mut().and_then(|session| session.ready.pop_front());
            let Some(index) = index else { return 0 };
            if let Some(written) = self.emit_of(index, room, &now) {
                return written;
            }
        }
    }

    /// Gives the next call that waits an index of the connection, and a turn behind the others.
    fn begin(&mut self) {
        while let Some(session) = self.session.as_mut().filter(|session| session.takes_calls()) {
            let Some((ticket, serial)) = self.waiting.pop_front() else { return };
            if !is_waiting(&self.calls, ticket, serial) {
                continue;
            }
            let Some(call) = self.calls.get_mut(ticket as usize) else { continue };
            let (len, max) = (call.out.len(), session.peer.max_message as usize);
            if len > max {
                self.end(ticket, Err(CallError::TooLarge { len, max }), false);
                continue;
            }
            let Some(index) = session.free.pop() else { return };
            self.waits -= 1;
            call.phase = Phase::Open(index);
            call.window = SendWindow::new(session.peer.window);
            if let Some(place) = session.places.get_mut(usize::from(index)) {
                place.generation += 1;
                place.ticket = Some(ticket);
            }
            session.queue(index);
            return;
        }
    }

    /// The next frame of the call at `index`, if it has one.
    fn emit_of(&mut self, index: u16, room: &mut [u8], now: impl Fn() -> Duration) -> Option<usize> {
        let session = self.session.as_mut()?;
        let place = session.places.get_mut(usize::from(index))?;
        place.queued = false;
        let id = CallId { index, generation: place.generation };
        let call = self.calls.get_mut(place.ticket? as usize)?;
        let written = if call.out.is_busy() {
            let deadline = call.deadline;
            let left = || deadline.map(|deadline| deadline.saturating_sub(now()));
            let written = call.out.emit(id, left, room, &mut self.buffers);
            if !call.out.is_busy() {
                call.ran = Ran::Maybe;
                call.writer.wake();
            }
            written
        } else if std::mem::take(&mut call.done) {
            write(room, &Frame::Done(id)).unwrap_or(0)
        } else {
            return None;
        };
        if call.out.is_busy() || call.done {
            session.queue(index);
        }
        Some(written)
    }

    /// Ends the calls whose time is up.
    pub(crate) fn expire(&mut self, now: Duration) {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return;
        }
        self.earliest = None;
        for ticket in 0..self.calls.len() {
            let Some(call) = self.calls.get(ticket) else { break };
            let (Phase::Waiting | Phase::Open(_), Some(deadline)) = (&call.phase, call.deadline) else { continue };
            if deadline <= now {
                let ran = call.ran;
                self.end(ticket as Ticket, Err(CallError::DeadlineExceeded { ran }), true);
            } else {
                self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
            }
        }
    }

    /// When to look again.
    pub(crate) fn earliest(&self) -> Option<Duration> {
        self.earliest
    }

    /// The next reply: `None` after the last.
    pub(crate) fn reply(&mut self, ticket: Ticket) -> Option<Result<Option<Vec<u8>>, CallError>> {
        let Some(call) = self.calls.get_mut(ticket as usize) else { return Some(Err(CallError::Closed)) };
        if let Phase::Ended(_, known @ false) = &mut call.phase {
            *known = true;
            self.ripe -= 1;
        }
        if let Some(item) = call.inbound.take() {
            if let (Some(session), Phase::Open(index)) = (&mut self.session, &call.phase) {
                if let (Some(id), Some(bytes)) = (session.id(*index), call.inbound.credit(self.own.window)) {
                    session.controls.push_back(Control::Credit(id, bytes));
                }
            }
            return Some(Ok(Some(item)));
        }
        match &call.phase {
            Phase::Ended(Ok(()), _) => Some(Ok(None)),
            Phase::Ended(Err(error), _) => Some(Err(error.clone())),
            _ => None,
        }
    }

    /// Ready when the next request of a stream may go; with the call's end where it has one.
    pub(crate) fn poll_room(&mut self, ticket: Ticket, waker: &Waker) -> Poll<Result<(), CallError>> {
        let Some(call) = self.calls.get_mut(ticket as usize) else { return Poll::Ready(Err(CallError::Closed)) };
        match &call.phase {
            Phase::Ended(Err(error), _) => Poll::Ready(Err(error.clone())),
            // The server has said all, and hears no more.
            Phase::Ended(Ok(()), _) | Phase::Free => Poll::Ready(Err(CallError::Closed)),
            Phase::Open(_) if call.window.is_open() && !call.out.is_busy() => Poll::Ready(Ok(())),
            _ => {
                call.writer.register(waker);
                Poll::Pending
            }
        }
    }

    /// The next request of a stream, after [`poll_room`](Self::poll_room).
    pub(crate) fn request(&mut self, ticket: Ticket, bytes: Vec<u8>) -> Result<(), CallError> {
        let max = self.session.as_ref().map_or(0, |session| session.peer.max_message as usize);
        let Some(call) = self.calls.get_mut(ticket as usize) else { return Err(CallError::Closed) };
        let Phase::Open(index) = call.phase else { return Err(CallError::Closed) };
        if bytes.len() > max {
            return Err(CallError::TooLarge { len: bytes.len(), max });
        }
        call.out.item(bytes, false, &mut call.window);
        self.queue(index);
        Ok(())
    }

    /// No more requests come.
    pub(crate) fn finish(&mut self, ticket: Ticket) {
        let Some(call) = self.calls.get_mut(ticket as usize) else { return };
        match call.phase {
            Phase::Waiting => call.done = true,
            Phase::Open(index) => {
                call.done = true;
                self.queue(index);
            }
            Phase::Free | Phase::Ended(..) => {}
        }
    }

    fn queue(&mut self, index: u16) {
        if let Some(session) = &mut self.session {
            session.queue(index);
        }
    }

    /// Who is to be woken when there are replies, or the end.
    pub(crate) fn await_reply(&mut self, ticket: Ticket, waker: &Waker) {
        if let Some(call) = self.calls.get_mut(ticket as usize) {
            call.reader.register(waker);
        }
    }

    /// Nobody waits for the call's replies at the moment.
    pub(crate) fn forget_reader(&mut self, ticket: Ticket) {
        if let Some(call) = self.calls.get_mut(ticket as usize) {
            call.reader.forget();
        }
    }

    /// Nobody waits for room for its requests at the moment.
    pub(crate) fn forget_writer(&mut self, ticket: Ticket) {
        if let Some(call) = self.calls.get_mut(ticket as usize) {
            call.writer.forget();
        }
    }

    /// Somebody who waits.
    pub(crate) fn somebody(&mut self) -> Option<&Waker> {
        let count = self.calls.len();
        let at = (0..count)
            .map(|step| (self.cursor + step) % count)
            .find(|at| self.calls.get(*at).is_some_and(|call| call.reader.waker().or(call.writer.waker()).is_some()))?;
        self.cursor = at + 1;
        let call = self.calls.get(at)?;
        call.reader.waker().or(call.writer.waker())
    }

    pub(crate) fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }
}

fn is_waiting(calls: &[Call], ticket: Ticket, serial: u64) -> bool {
    calls.get(ticket as usize).is_some_and(|call| call.serial == serial && call.phase == Phase::Waiting)
}

impl Call {
    fn free() -> Self {
        Self {
            serial: 0,
            phase: Phase::Free,
            flow: Flow { requests: false, replies: false },
            deadline: None,
            out: Outgoing::default(),
            done: false,
            window: SendWindow::default(),
            inbound: Inbound::default(),
            ran: Ran::No,
            reader: Waiter::default(),
            writer: Waiter::default(),
        }
    }
}

impl Session {
    fn takes_calls(&self) -> bool {
        !self.leaving && !self.free.is_empty()
    }

    fn queue(&mut self, index: u16) {
        if let Some(place) = self.places.get_mut(usize::from(index)).filter(|place| !place.queued) {
            place.queued = true;
            self.ready.push_back(index);
        }
    }

    fn id(&self, index: u16) -> Option<CallId> {
        let generation = self.places.get(usize::from(index))?.generation;
        Some(CallId { index, generation })
    }

    /// Which call that is; none where it has ended.
    fn ticket(&self, id: CallId) -> Result<Option<Ticket>, Fault> {
        match self.places.get(usize::from(id.index)) {
            Some(place) if place.generation == id.generation => Ok(place.ticket),
            Some(place) if place.generation > id.generation => Ok(None),
            _ => Err(Fault::Place),
        }
    }

    /// Lets an index go: which call had it.
    fn vacate(&mut self, index: u16) -> Option<(&mut Self, CallId)> {
        let id = self.id(index)?;
        self.places.get_mut(usize::from(index))?.ticket.take()?;
        self.free.push(index);
        Some((self, id))
    }
}
