//! Receiving: frames in, messages out.

use std::future::{Future, poll_fn};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use trespass_core::{InOrder, Lossless, Track, TryError};

use crate::carrier::{MessageCarrier, limited};
use crate::error::{CarrierError, Phase, Violation};
use crate::inbox::OutOfMemory;
use crate::message::{Message, Payload};
use crate::planted::{self, Bug};
use crate::side::Side;
use crate::wire::Frame;

impl<T: Track<Delivery: Lossless + InOrder>> MessageCarrier<T> {
    /// The next message; `None` after the peer's last, again and again. Gives the peer its credits, and sends what waits.
    ///
    /// # Errors
    /// `WouldBlock` while there is none. After all that had arrived: kind `Disconnected` where the track ended and the peer
    /// had not said goodbye, `Protocol` where it spoke nonsense, `Closed` after a close of this end; else what ended the
    /// track.
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<Message<T>>, TryError<CarrierError<T::Error>>> {
        let received = self.receive();
        if let Err(TryError::WouldBlock) = received {
            self.settle();
        }
        received
    }

    /// [`try_recv`](Self::try_recv), or a wait for it. One waker: the latest wins.
    ///
    /// # Errors
    /// As `try_recv`, never `WouldBlock`.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message<T>>, CarrierError<T::Error>>> {
        loop {
            match self.receive() {
                Ok(message) => return Poll::Ready(Ok(message)),
                Err(TryError::Failed(error)) => return Poll::Ready(Err(error)),
                Err(TryError::WouldBlock) => {}
            }
            self.fan_out.reader().register(cx.waker());
            ready!(self.poll_arrival(Side::Reader));
        }
    }

    /// Waits for the next message; `None` after the peer's last. Dropping the future at any point loses nothing.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv), never `WouldBlock`.
    pub fn recv(&mut self) -> impl Future<Output = Result<Option<Message<T>>, CarrierError<T::Error>>> + use<'_, T> {
        poll_fn(|cx| self.poll_recv(cx))
    }

    /// [`recv`](Self::recv), for `limit` at most: after it nothing is lost, and the carrier lives on. Costs an alarm where it has
    /// to wait.
    ///
    /// # Errors
    /// As `recv`; kind `TimedOut` with [`Phase::Receive`] past the limit.
    pub fn recv_within(
        &mut self,
        limit: Duration,
    ) -> impl Future<Output = Result<Option<Message<T>>, CarrierError<T::Error>>> + use<'_, T> {
        let timer = self.timer();
        limited(timer, limit, Phase::Receive, self.recv())
    }

    /// Ready when [`try_recv`](Self::try_recv) would not say `WouldBlock`. One waker, which this shares with
    /// [`poll_recv`](Self::poll_recv): the latest wins.
    pub fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.receive() {
                Ok(Some(message)) => {
                    self.unreceive(message);
                    return Poll::Ready(());
                }
                Ok(None) | Err(TryError::Failed(_)) => return Poll::Ready(()),
                Err(TryError::WouldBlock) => {}
            }
            self.fan_out.reader().register(cx.waker());
            ready!(self.poll_arrival(Side::Reader));
        }
    }

    /// The next message, if it is there. The short way for what there is most of: a message that is one frame.
    #[inline]
    pub(crate) fn receive(&mut self) -> Result<Option<Message<T>>, TryError<CarrierError<T::Error>>> {
        let (true, Some(track)) = (self.inbox.is_empty(), &mut self.track) else { return self.receive_stored() };
        let buf = match track.try_recv() {
            Ok(buf) => buf,
            Err(error) => return self.nothing(error),
        };
        let whole = match self.sizes.head {
            0 => T::immediate(&buf).map(|credits| (buf.len(), credits)),
            _ => Frame::whole_message(&buf),
        };
        match whole {
            Some((len, credits)) if self.inbox.takes(len) && self.credits.on_received(credits).is_ok() => {
                self.report_if_due();
                Ok(Some(self.received(Payload::Direct(buf, self.sizes.head), len)))
            }
            _ => self.receive_other(buf),
        }
    }

    #[cold]
    fn receive_stored(&mut self) -> Result<Option<Message<T>>, TryError<CarrierError<T::Error>>> {
        match self.inbox.next() {
            Ok(Some(payload)) => Ok(Some(self.received_any(payload))),
            Ok(None) => self.receive_any(),
            Err(error) => Err(self.out_of_memory(error)),
        }
    }

    /// A frame that is no whole message, or has something wrong with it; then what comes after it.
    #[inline(never)]
    fn receive_other(&mut self, buf: T::RecvBuf) -> Result<Option<Message<T>>, TryError<CarrierError<T::Error>>> {
        match self.open_frame(buf)? {
            Some(payload) => Ok(Some(self.received_any(payload))),
            None => self.receive_any(),
        }
    }

    /// The next message of the track, of any sort.
    fn receive_any(&mut self) -> Result<Option<Message<T>>, TryError<CarrierError<T::Error>>> {
        loop {
            // A report that fails takes in what had arrived: then that is next.
            if !self.inbox.is_empty() {
                return self.receive_stored();
            }
            let Some(track) = &mut self.track else { return self.end() };
            let buf = match track.try_recv() {
                Ok(buf) => buf,
                Err(error) => return self.nothing(error),
            };
            if let Some(payload) = self.open_frame(buf)? {
                return Ok(Some(self.received_any(payload)));
            }
        }
    }

    /// What a frame comes to: a message, or nothing yet.
    fn open_frame(&mut self, buf: T::RecvBuf) -> Result<Option<Payload<T::RecvBuf>>, TryError<CarrierError<T::Error>>> {
        let Some(frame) = self.admit(&buf)? else {
            // Control is given back at once: the credits count on it.
            drop(buf);
            self.report_if_due();
            return Ok(None);
        };
        let payload = match self.inbox.open(frame, buf) {
            Ok(payload) => payload,
            Err(error) => return Err(self.out_of_memory(error)),
        };
        self.report_if_due();
        Ok(payload)
    }

    #[inline]
    fn report_if_due(&mut self) {
        if self.credits.may_be_due() || self.out.is_pending() {
            self.report();
        }
    }

    #[inline]
    fn received(&mut self, payload: Payload<T::RecvBuf>, len: usize) -> Message<T> {
        self.stats.messages_received += 1;
        self.stats.bytes_received += len as u64;
        Message::new(payload)
    }

    fn received_any(&mut self, payload: Payload<T::RecvBuf>) -> Message<T> {
        let len = payload.len() as usize;
        self.received(payload, len)
    }

    /// Puts the message that was received last back in its place.
    pub(crate) fn unreceive(&mut self, message: Message<T>) {
        self.stats.messages_received -= 1;
        self.stats.bytes_received -= message.payload().len();
        self.inbox.put_back(message.into_payload());
    }

    /// The track gave nothing: not now, or not any more.
    #[inline]
    fn nothing(&mut self, error: TryError<T::Error>) -> Result<Option<Message<T>>, TryError<CarrierError<T::Error>>> {
        match error {
            TryError::WouldBlock if !self.inbox.finished() => Err(TryError::WouldBlock),
            TryError::WouldBlock => Ok(None),
            TryError::Failed(error) => {
                self.track_ended(error);
                self.end()
            }
        }
    }

    /// Takes in what has arrived, for the sake of the credits that come with it. Messages wait in the inbox; where the peer
    /// runs low they are copied out of its way.
    pub(crate) fn take_in(&mut self) {
        if let Some(error) = self.take_arrived() {
            self.track_ended(error);
        }
        if self.credits.peer_runs_low() {
            self.make_room();
        }
    }

    /// The same, and no conclusions: how the track has ended, if it has.
    pub(super) fn take_arrived(&mut self) -> Option<T::Error> {
        while let Some(track) = &mut self.track {
            match track.try_recv() {
                Ok(buf) => match self.admit(&buf) {
                    Ok(Some(frame)) => self.inbox.store(frame, buf),
                    Ok(None) => {}
                    Err(_) => return None,
                },
                Err(TryError::WouldBlock) => return None,
                Err(TryError::Failed(error)) => return Some(error),
            }
        }
        None
    }

    fn make_room(&mut self) {
        match self.inbox.spill() {
            Ok((messages, bytes)) => {
                self.stats.spilled_messages += messages;
                self.stats.spilled_bytes += bytes;
            }
            Err(error) => {
                self.out_of_memory(error);
            }
        }
    }

    /// Checks a frame, and does what it says unless it is data, which comes back.
    fn admit(&mut self, buf: &T::RecvBuf) -> Result<Option<Frame>, TryError<CarrierError<T::Error>>> {
        let bare = if self.sizes.head == 0 { T::immediate(buf) } else { None };
        let parsed = match bare {
            Some(credits) => Ok((Frame::Message { len: buf.len() }, credits)),
            None => Frame::parse(buf),
        };
        let parsed = parsed.and_then(|(frame, credits)| {
            self.credits.on_received(credits)?;
            self.inbox.admit(&frame)?;
            Ok(frame)
        });
        match parsed {
            Ok(frame) => self.heed(frame),
            Err(violation) => Err(self.violated(violation)),
        }
    }

    fn heed(&mut self, frame: Frame) -> Result<Option<Frame>, TryError<CarrierError<T::Error>>> {
        match frame {
            Frame::Message { .. } => return Ok(Some(frame)),
            Frame::First { .. } | Frame::More { .. } => {
                self.stats.segments_received += 1;
                return Ok(Some(frame));
            }
            Frame::Credit => self.stats.credit_updates_received += 1,
            Frame::Abort | Frame::Fin => {}
            // How many are lent bounds what the peer may have us remember.
            Frame::Lend(_) if self.lends.arrived() => {
                self.note_unwanted();
                return Ok(Some(frame));
            }
            Frame::Fetched if self.lends.fetched() => {}
            Frame::Lend(_) | Frame::Fetched => return Err(self.violated(Violation::OutOfPlace(frame.kind().code()))),
            Frame::Bye => {
                self.peer_left = true;
                self.out.peer_left();
            }
            Frame::Refuse(refusal) => return Err(TryError::Failed(self.fail(CarrierError::Refused(refusal)))),
        }
        Ok(None)
    }

    #[cold]
    fn violated(&mut self, violation: Violation) -> TryError<CarrierError<T::Error>> {
        TryError::Failed(self.fail(CarrierError::Protocol(violation)))
    }

    #[cold]
    fn out_of_memory(&mut self, OutOfMemory(len): OutOfMemory) -> TryError<CarrierError<T::Error>> {
        TryError::Failed(self.fail(CarrierError::OutOfMemory(len)))
    }

    /// The track has given all that it had.
    #[cold]
    pub(super) fn track_ended(&mut self, error: T::Error) {
        let error = self.ended(error);
        let first = self.out.fail(error);
        if !self.inbox.finished() {
            self.recv_error.get_or_insert(first);
        }
        self.track = None;
        self.fan_out.waker().wake_by_ref();
    }

    /// What receiving ends with.
    #[cold]
    fn end(&mut self) -> Result<Option<Message<T>>, TryError<CarrierError<T::Error>>> {
        match &self.recv_error {
            Some(CarrierError::Disconnected) if planted::is(Bug::Close) => Ok(None),
            None if self.inbox.finished() => Ok(None),
            // Without an error it is a close of this end that is under way; and what was told once is told again.
            _ => Err(TryError::Failed(self.recv_error.get_or_insert(CarrierError::Closed).clone())),
        }
    }
}
