//! The server's end of a connection: which calls are open, what came for them, and what is to go out.

use std::collections::VecDeque;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::Waiter;
use super::flow::{Buffers, Inbound, Outgoing, SendWindow};
use super::wire::{CallId, End, Fault, Frame, Hello, LEAST_ROOM, Piece, write};
use crate::method::Flow;
use crate::status::Rejection;

/// So many short frames may wait to go out before no more is read: only a peer that sends what makes no sense gets there.
const MOST_CONTROLS: usize = 256;

/// All calls of one connection.
#[derive(Debug)]
pub(crate) struct Served {
    own: Hello,
    peer: Hello,
    places: Vec<Place>,
    open: usize,
    /// Whose turn it is to send.
    ready: VecDeque<u16>,
    controls: VecDeque<Control>,
    buffers: Buffers,
    /// No call's deadline is before this.
    earliest: Option<Duration>,
    leave: Leave,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    No,
    /// It is to be said.
    Due,
    Said,
}

/// A frame that is not a message.
#[derive(Debug)]
enum Control {
    End(CallId, End),
    Credit(CallId, u32),
}

/// What has an index.
#[derive(Debug, Default)]
struct Place {
    /// Of the last call there.
    generation: u64,
    call: Option<Call>,
}

#[derive(Debug)]
struct Call {
    flow: Flow,
    method: u32,
    deadline: Option<Duration>,
    /// The request is here, and the service runs.
    started: bool,
    inbound: Inbound,
    window: SendWindow,
    out: Outgoing,
    /// The service has ended. What is out then, or this, is the end of the call.
    over: bool,
    end: Option<End>,
    queued: bool,
    reader: Waiter,
    writer: Waiter,
}

/// What a frame asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action<'a> {
    Nothing,
    /// Run the service.
    Start {
        id: CallId,
        method: u32,
        deadline: Option<Duration>,
        request: Request<'a>,
    },
    /// Drop what runs there.
    Stop(u16),
}

/// A request, where it arrived or put together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    Here(&'a [u8]),
    Whole(Vec<u8>),
}

impl Request<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Here(bytes) => bytes,
            Self::Whole(bytes) => bytes,
        }
    }
}

/// The call is over: nobody waits for what its service does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Over;

impl Served {
    pub(crate) fn new(own: Hello, peer: Hello) -> Self {
        let places = (0..own.max_calls).map(|_| Place::default()).collect();
        let (ready, controls, buffers) = (VecDeque::new(), VecDeque::new(), Buffers::default());
        Self { own, peer, places, open: 0, ready, controls, buffers, earliest: None, leave: Leave::No }
    }

    /// So much waits to go out that nothing more should come in.
    pub(crate) fn is_backlogged(&self) -> bool {
        self.controls.len() >= MOST_CONTROLS
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.ready.is_empty() || !self.controls.is_empty() || self.leave == Leave::Due
    }

    /// No new calls from now on, and the client is told.
    pub(crate) fn leave(&mut self) {
        if self.leave == Leave::No {
            self.leave = Leave::Due;
        }
    }

    /// What a frame of the client comes to. `flow` says which methods there are.
    pub(crate) fn on_frame<'a>(
        &mut self,
        frame: Frame<'a>,
        now: impl FnOnce() -> Duration,
        flow: impl FnOnce(u32) -> Option<Flow>,
    ) -> Result<Action<'a>, Fault> {
        Ok(match frame {
            Frame::Call { id, method, left, piece } => self.on_call(id, method, left, piece, now, flow),
            Frame::Item(id, piece) => {
                let most = self.own.max_message as usize;
                self.of_call(id, |call, buffers| match call.flow.requests {
                    true => call.inbound.begin(piece, most, buffers),
                    false => Err(Fault::Place),
                })
            }
            Frame::Part(id, piece) => self.on_part(id, piece),
            Frame::Done(id) => self.of_call(id, |call, _| match call.flow.requests {
                true => call.inbound.finish(),
                false => Err(Fault::Place),
            }),
            Frame::Credit(id, bytes) => {
                let window = self.peer.window;
                self.of_call(id, |call, _| {
                    call.writer.wake();
                    match call.flow.replies {
                        true => call.window.credit(bytes, window),
                        false => Err(Fault::Place),
                    }
                })
            }
            Frame::Cancel(id) => match self.call(id) {
                Some(_) => {
                    self.close(id.index);
                    Action::Stop(id.index)
                }
                None => Action::Nothing,
            },
            Frame::Fault(number) => return Err(Fault::Told(number)),
            Frame::Hello(_) | Frame::End(..) | Frame::Leave => return Err(Fault::Place),
        })
    }

    fn on_call<'a>(
        &mut self,
        id: CallId,
        method: u32,
        left: Option<Duration>,
        piece: Piece<'a>,
        now: impl FnOnce() -> Duration,
        flow: impl FnOnce(u32) -> Option<Flow>,
    ) -> Action<'a> {
        let most = self.own.max_message as usize;
        let Some(place) = self.places.get_mut(usize::from(id.index)) else { return self.reject(id, Rejection::Busy) };
        if place.call.is_some() || id.generation <= place.generation {
            return self.reject(id, Rejection::Protocol);
        }
        // From here on what else comes for this call, if it is rejected, comes too late.
        place.generation = id.generation;
        let flow = match flow(method) {
            _ if self.leave != Leave::No => return self.reject(id, Rejection::Draining),
            None => return self.reject(id, Rejection::UnknownMethod),
            Some(_) if left == Some(Duration::ZERO) => return self.reject(id, Rejection::DeadlineExceeded),
            Some(_) if piece.bytes.len() > most => return self.reject(id, Rejection::TooLarge),
            Some(flow) if flow.requests && (piece.more || !piece.bytes.is_empty()) => {
                return self.reject(id, Rejection::Protocol);
            }
            Some(flow) => flow,
        };
        let deadline = left.map(|left| now().saturating_add(left));
        let mut call = Call {
            flow,
            method,
            deadline,
            started: !piece.more,
            inbound: Inbound::open(self.own.window),
            window: SendWindow::new(self.peer.window),
            out: Outgoing::default(),
            over: false,
            end: None,
            queued: false,
            reader: Waiter::default(),
            writer: Waiter::default(),
        };
        if piece.more && call.inbound.begin(piece, most, &mut self.buffers).is_err() {
            return self.reject(id, Rejection::Protocol);
        }
        place.call = Some(call);
        self.open += 1;
        self.earliest = [self.earliest, deadline].into_iter().flatten().min();
        match piece.more {
            true => Action::Nothing,
            false => Action::Start { id, method, deadline, request: Request::Here(piece.bytes) },
        }
    }

    fn on_part<'a>(&mut self, id: CallId, piece: Piece<'a>) -> Action<'a> {
        let most = self.own.max_message as usize;
        let Some(call) = self.call(id) else { return self.of_call(id, |_, _| Ok(())) };
        if call.started {
            return self.of_call(id, |call, _| call.inbound.part(piece, most));
        }
        // The request: it says by itself when it is whole, and is the only one.
        match call.inbound.part(piece, most) {
            Ok(()) if piece.last => self.refuse(id.index, Rejection::Protocol),
            Ok(()) if piece.more => Action::Nothing,
            Ok(()) => {
                call.started = true;
                let request = Request::Whole(call.inbound.take().unwrap_or_default());
                Action::Start { id, method: call.method, deadline: call.deadline, request }
            }
            Err(_) => self.refuse(id.index, Rejection::TooLarge),
        }
    }

    /// Has a frame of an open call change it. What makes no sense ends the call, or is told where there is none.
    fn of_call<'a>(
        &mut self,
        id: CallId,
        change: impl FnOnce(&mut Call, &mut Buffers) -> Result<(), Fault>,
    ) -> Action<'a> {
        let place = self.places.get_mut(usize::from(id.index));
        match place {
            Some(Place { generation, call: Some(call) }) if *generation == id.generation => {
                if call.started && change(call, &mut self.buffers).is_ok() {
                    call.reader.wake();
                    return Action::Nothing;
                }
                self.refuse(id.index, Rejection::Protocol)
            }
            // Too late: its call has ended.
            Some(place) if id.generation <= place.generation => Action::Nothing,
            _ => self.reject(id, Rejection::Protocol),
        }
    }

    fn call(&mut self, id: CallId) -> Option<&mut Call> {
        let place = self.places.get_mut(usize::from(id.index))?;
        place.call.as_mut().filter(|_| place.generation == id.generation)
    }

    /// Ends a call that is not open.
    fn reject<'a>(&mut self, id: CallId, rejection: Rejection) -> Action<'a> {
        self.controls.push_back(Control::End(id, End::Rejected(rejection)));
        Action::Nothing
    }

    /// Ends an open call before its service does.
    pub(crate) fn refuse<'a>(&mut self, index: u16, rejection: Rejection) -> Action<'a> {
        if let Some(place) = self.places.get(usize::from(index)).filter(|place| place.call.is_some()) {
            let id = CallId { index, generation: place.generation };
            self.close(index);
            self.reject(id, rejection);
        }
        Action::Stop(index)
    }

    fn close(&mut self, index: u16) {
        let Some(mut call) = self.places.get_mut(usize::from(index)).and_then(|place| place.call.take()) else {
            return;
        };
        self.open -= 1;
        call.out.clear(&mut self.buffers);
        call.inbound.clear(&mut self.buffers);
        call.reader.wake();
        call.writer.wake();
    }

    /// The service's reply, or the end of its replies.
    pub(crate) fn finish(&mut self, id: CallId, end: Result<Vec<u8>, End>) {
        let most = self.peer.max_message as usize;
        let Some(call) = self.call(id) else { return };
        call.over = true;
        match end {
            Ok(reply) if reply.len() > most => call.end = Some(End::Rejected(Rejection::BadReply)),
            Ok(reply) => call.out.item(reply, true, &mut call.window),
            Err(end) => call.end = Some(end),
        }
        self.queue(id.index);
    }

    fn queue(&mut self, index: u16) {
        let call = self.places.get_mut(usize::from(index)).and_then(|place| place.call.as_mut());
        if let Some(call) = call.filter(|call| !call.queued) {
            call.queued = true;
            self.ready.push_back(index);
        }
    }

    /// Fills `room`, of [`LEAST_ROOM`] bytes or more, with frames: how many bytes.
    pub(crate) fn fill(&mut self, room: &mut [u8]) -> usize {
        let mut filled = 0;
        while let Some(rest) = room.get_mut(filled..).filter(|rest| rest.len() >= LEAST_ROOM) {
            filled += match self.emit(rest) {
                0 => break,
                written => written,
            };
        }
        filled
    }

    fn emit(&mut self, room: &mut [u8]) -> usize {
        let control = match self.controls.pop_front() {
            Some(Control::End(id, end)) => Some(Frame::End(id, end)),
            Some(Control::Credit(id, bytes)) => Some(Frame::Credit(id, bytes)),
            None if self.leave == Leave::Due => {
                self.leave = Leave::Said;
                Some(Frame::Leave)
            }
            None => None,
        };
        if let Some(frame) = control {
            return write(room, &frame).unwrap_or(0);
        }
        while let Some(index) = self.ready.pop_front() {
            let Some(place) = self.places.get_mut(usize::from(index)) else { continue };
            let Some(call) = place.call.as_mut().filter(|call| call.queued) else { continue };
            call.queued = false;
            let id = CallId { index, generation: place.generation };
            if !call.out.is_busy() {
                let Some(end) = call.end.take() else { continue };
                self.close(index);
                return write(room, &Frame::End(id, end)).unwrap_or(0);
            }
            let written = call.out.emit(id, || None, room, &mut self.buffers);
            if call.out.is_busy() || call.end.is_some() {
                // The others first.
                self.queue(index);
            } else if call.over {
                self.close(index);
            } else {
                call.writer.wake();
            }
            return written;
        }
        0
    }

    /// A call whose time is up, which is ended.
    pub(crate) fn expire(&mut self, now: Duration) -> Option<u16> {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return None;
        }
        self.earliest = None;
        for (index, place) in (0..).zip(&self.places) {
            let Some(deadline) = place.call.as_ref().filter(|call| !call.over).and_then(|call| call.deadline) else {
                continue;
            };
            if deadline <= now {
                // There may be others.
                self.earliest = Some(deadline);
                self.refuse(index, Rejection::DeadlineExceeded);
                return Some(index);
            }
            self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
        }
        None
    }

    /// When to look again.
    pub(crate) fn earliest(&self) -> Option<Duration> {
        self.earliest
    }

    /// The next request of a stream; `None` after the last.
    pub(crate) fn poll_request(&mut self, id: CallId, waker: &Waker) -> Poll<Result<Option<Vec<u8>>, Over>> {
        let window = self.own.window;
        let Some(call) = self.call(id) else { return Poll::Ready(Err(Over)) };
        let Some(item) = call.inbound.take() else {
            if call.inbound.is_done() {
                return Poll::Ready(Ok(None));
            }
            call.reader.register(waker);
            return Poll::Pending;
        };
        if let Some(bytes) = call.inbound.credit(window) {
            self.controls.push_back(Control::Credit(id, bytes));
        }
        Poll::Ready(Ok(Some(item)))
    }

    /// Ready when the next reply of a stream may go.
    pub(crate) fn poll_room(&mut self, id: CallId, waker: &Waker) -> Poll<Result<(), Over>> {
        let Some(call) = self.call(id) else { return Poll::Ready(Err(Over)) };
        if call.window.is_open() && !call.out.is_busy() {
            return Poll::Ready(Ok(()));
        }
        call.writer.register(waker);
        Poll::Pending
    }

    /// The next reply of a stream, after [`poll_room`](Self::poll_room).
    pub(crate) fn reply(&mut self, id: CallId, bytes: Vec<u8>) -> Result<(), Over> {
        let call = self.call(id).ok_or(Over)?;
        call.out.item(bytes, false, &mut call.window);
        self.queue(id.index);
        Ok(())
    }

    /// The longest reply that the client takes.
    pub(crate) fn max_reply(&self) -> usize {
        self.peer.max_message as usize
    }

    /// The client was told to go, and there is nothing under way any more.
    pub(crate) fn has_left(&self) -> bool {
        self.leave == Leave::Said && self.open == 0 && !self.has_output()
    }

    /// The open call at an index.
    pub(crate) fn id(&self, index: u16) -> Option<CallId> {
        let place = self.places.get(usize::from(index))?;
        place.call.as_ref().map(|_| CallId { index, generation: place.generation })
    }

    /// All calls are over.
    pub(crate) fn end(&mut self) {
        for index in 0..self.own.max_calls {
            self.close(index);
        }
    }

    pub(crate) fn is_open(&mut self, id: CallId) -> bool {
        self.call(id).is_some()
    }

    pub(crate) fn buffers(&mut self) -> &mut Buffers {
        &mut self.buffers
    }
}
