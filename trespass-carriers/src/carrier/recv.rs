//! Receiving: frames in, messages out.

use std::future::{Future, poll_fn};
use std::task::{Context, Poll, ready};

use trespass_core::{InOrder, Lossless, Track, TryError};

use crate::carrier::MessageCarrier;
use crate::error::{CarrierError, Violation};
use crate::inbox::OutOfMemory;
use crate::message::{Message, Payload};
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
        self.deliver(received)
    }

    /// [`try_recv`](Self::try_recv), or a wait for it. One waker: the latest wins.
    ///
    /// # Errors
    /// As `try_recv`, never `WouldBlock`.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message<T>>, CarrierError<T::Error>>> {
        loop {
            let received = self.receive();
            match self.deliver(received) {
                Ok(message) => return Poll::Ready(Ok(message)),
                Err(TryError::Failed(error)) => return Poll::Ready(Err(error)),
                Err(TryError::WouldBlock) => {}
            }
            self.fan_out.reader().register(cx.waker());
            ready!(self.poll_arrival());
        }
    }

    /// Waits for the next message; `None` after the peer's last. Dropping the future at any point loses nothing.
    ///
    /// # Errors
    /// As [`try_recv`](Self::try_recv), never `WouldBlock`.
    pub fn recv(&mut self) -> impl Future<Output = Result<Option<Message<T>>, CarrierError<T::Error>>> + use<'_, T> {
        poll_fn(|cx| self.poll_recv(cx))
    }

    /// Ready when [`try_recv`](Self::try_recv) would not say `WouldBlock`. One waker, which this shares with
    /// [`poll_recv`](Self::poll_recv): the latest wins.
    pub fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.receive() {
                Ok(Some(payload)) => {
                    self.inbox.put_back(payload);
                    return Poll::Ready(());
                }
                Ok(None) | Err(TryError::Failed(_)) => return Poll::Ready(()),
                Err(TryError::WouldBlock) => {}
            }
            self.fan_out.reader().register(cx.waker());
            ready!(self.poll_arrival());
        }
    }

    #[inline]
    fn receive(&mut self) -> Result<Option<Payload<T::RecvBuf>>, TryError<CarrierError<T::Error>>> {
        if !self.inbox.is_empty() {
            if let Some(payload) = self.receive_stored()? {
                return Ok(Some(payload));
            }
        }
        loop {
            let Some(track) = &mut self.track else { return self.end() };
            let buf = match track.try_recv() {
                Ok(buf) => buf,
                Err(TryError::WouldBlock) if self.inbox.finished() => return Ok(None),
                Err(TryError::WouldBlock) => return Err(TryError::WouldBlock),
                Err(TryError::Failed(error)) => {
                    self.track_ended(error);
                    return self.end();
                }
            };
            let opened = match self.admit(&buf)? {
                Some(frame) => self.inbox.open(frame, buf),
                None => {
                    // Control is given back at once: the credits count on it.
                    drop(buf);
                    Ok(None)
                }
            };
            let payload = opened.map_err(|error| self.out_of_memory(error))?;
            if self.credits.may_be_due() || self.out.is_pending() {
                self.report();
            }
            if payload.is_some() {
                return Ok(payload);
            }
        }
    }

    #[cold]
    fn receive_stored(&mut self) -> Result<Option<Payload<T::RecvBuf>>, TryError<CarrierError<T::Error>>> {
        let next = self.inbox.next();
        next.map_err(|error| self.out_of_memory(error))
    }

    /// Takes in what has arrived, for the sake of the credits that come with it. Messages wait in the inbox; where the peer
    /// runs low they are copied out of its way.
    pub(super) fn take_in(&mut self) {
        let mut stored = false;
        while let Some(track) = &mut self.track {
            match track.try_recv() {
                Ok(buf) => match self.admit(&buf) {
                    Ok(Some(frame)) => {
                        self.inbox.store(frame, buf);
                        stored = true;
                    }
                    Ok(None) => {}
                    Err(_) => return,
                },
                Err(TryError::WouldBlock) => break,
                Err(TryError::Failed(error)) => self.track_ended(error),
            }
        }
        if self.credits.peer_runs_low() {
            self.make_room();
        }
        if stored {
            self.fan_out.reader().wake();
        }
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
    #[inline]
    fn admit(&mut self, bytes: &[u8]) -> Result<Option<Frame>, TryError<CarrierError<T::Error>>> {
        let parsed = Frame::parse(bytes).and_then(|(frame, credits)| {
            self.credits.on_received(credits)?;
            self.inbox.admit(&frame)?;
            Ok(frame)
        });
        match parsed {
            Ok(frame @ Frame::Message { .. }) => Ok(Some(frame)),
            Ok(frame) => self.admit_other(frame),
            Err(violation) => Err(self.violated(violation)),
        }
    }

    fn admit_other(&mut self, frame: Frame) -> Result<Option<Frame>, TryError<CarrierError<T::Error>>> {
        match frame {
            Frame::Message { .. } => return Ok(Some(frame)),
            Frame::First { .. } | Frame::More { .. } => {
                self.stats.segments_received += 1;
                return Ok(Some(frame));
            }
            Frame::Abort => self.inbox.abort(),
            Frame::Credit => self.stats.credit_updates_received += 1,
            Frame::Fin => {}
            Frame::Bye => {
                self.inbox.abort();
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
    fn end(&self) -> Result<Option<Payload<T::RecvBuf>>, TryError<CarrierError<T::Error>>> {
        match &self.recv_error {
            Some(error) => Err(TryError::Failed(error.clone())),
            None if self.inbox.finished() => Ok(None),
            None => Err(TryError::Failed(CarrierError::Closed)),
        }
    }

    #[inline]
    fn deliver(
        &mut self,
        received: Result<Option<Payload<T::RecvBuf>>, TryError<CarrierError<T::Error>>>,
    ) -> Result<Option<Message<T>>, TryError<CarrierError<T::Error>>> {
        let Some(payload) = received? else { return Ok(None) };
        let message = Message::new(payload);
        self.stats.messages_received += 1;
        self.stats.bytes_received += message.len() as u64;
        Ok(Some(message))
    }
}
