//! Carriers as links.

use std::io::IoSlice;
use std::task::{Context, Poll, ready};

use trespass_carriers::{
    CarrierError, DatagramCarrier, MessageCarrier, RendezvousCarrier, StreamCarrier, TryRegionError,
};
use trespass_core::{Carrier, Datagram, Fabric, InOrder, Lossless, MemoryFabric, Track, TryError};

use super::link::{Link, STRANGE, Word, word_of};

/// A message carrier, or one over datagrams: messages that fit a slot are filled in place, longer ones go in segments.
pub(crate) struct MessageLink<C> {
    carrier: C,
    size: usize,
    long: bool,
    message: Vec<u8>,
}

impl<C> MessageLink<C> {
    /// `eager` is the longest message that goes in one piece.
    pub(crate) fn new(carrier: C, size: usize, eager: usize) -> Self {
        let long = size > eager;
        // Pages that were never written to would cost the first message more.
        Self { carrier, size, long, message: vec![1; if long { size } else { 0 }] }
    }
}

macro_rules! link_of_messages {
    ($carrier:ident, $($bound:tt)*) => {
        impl<T: $($bound)*> Link for MessageLink<$carrier<T>> {
            type Error = CarrierError<T::Error>;

            #[inline]
            fn send(&mut self, word: Word, mut cx: Option<&mut Context<'_>>) -> Poll<Result<(), Self::Error>> {
                loop {
                    match self.carrier.try_reserve(self.size) {
                        Ok(mut buf) => {
                            word.put(&mut buf);
                            return Poll::Ready(self.carrier.send_buf(buf).map_err(|unsent| unsent.error));
                        }
                        Err(TryError::Failed(error)) => return Poll::Ready(Err(error)),
                        Err(TryError::WouldBlock) => match &mut cx {
                            Some(cx) => ready!(self.carrier.poll_send_ready(cx)),
                            None => return Poll::Pending,
                        },
                    }
                }
            }

            #[inline]
            fn flush(&mut self) -> Result<(), Self::Error> {
                self.carrier.flush()
            }

            #[inline]
            fn recv(&mut self, cx: Option<&mut Context<'_>>) -> Poll<Result<Word, Self::Error>> {
                let message = match (cx, self.carrier.try_recv()) {
                    (_, Ok(message)) => message,
                    (_, Err(TryError::Failed(error))) => return Poll::Ready(Err(error)),
                    (None, Err(TryError::WouldBlock)) => return Poll::Pending,
                    (Some(cx), Err(TryError::WouldBlock)) => match ready!(self.carrier.poll_recv(cx)) {
                        Ok(message) => message,
                        Err(error) => return Poll::Ready(Err(error)),
                    },
                };
                Poll::Ready(Ok(message.map_or(STRANGE, |message| word_of(&message, self.size))))
            }

            fn is_long(&self) -> bool {
                self.long
            }

            async fn send_long(&mut self, word: Word) -> Result<(), Self::Error> {
                word.put(&mut self.message);
                self.carrier.send(&self.message).await
            }

            fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
                self.carrier.poll_close(cx)
            }
        }
    };
}

link_of_messages!(MessageCarrier, Track<Delivery: Lossless + InOrder>);
link_of_messages!(DatagramCarrier, Track<Delivery = Datagram>);

/// A rendezvous carrier, with memory that goes round.
pub(crate) struct RendezvousLink<F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>>> {
    carrier: RendezvousCarrier<F>,
    size: usize,
    /// Memory that is not lent.
    idle: Vec<F::Region>,
}

impl<F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>>> RendezvousLink<F> {
    /// With so many pieces of memory, all registered here.
    pub(crate) fn new(
        carrier: RendezvousCarrier<F>,
        size: usize,
        regions: usize,
    ) -> Result<Self, CarrierError<F::Error>> {
        let idle = (0..regions).map(|_| carrier.alloc(size)).collect::<Result<_, _>>()?;
        Ok(Self { carrier, size, idle })
    }

    /// Memory that nobody reads. Where there is none, what was queued goes out: nobody reads what he was not told of.
    #[inline]
    fn region(&mut self, cx: Option<&mut Context<'_>>) -> Poll<Result<F::Region, CarrierError<F::Error>>> {
        match (self.idle.pop().or_else(|| self.carrier.try_returned()), cx) {
            (Some(region), _) => Poll::Ready(Ok(region)),
            // None is out where all came back and could not be sent, which the carrier has said.
            (None, Some(cx)) => self.carrier.poll_returned(cx).map(|region| region.ok_or(CarrierError::Closed)),
            (None, None) => {
                self.carrier.flush()?;
                Poll::Pending
            }
        }
    }
}

impl<F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>>> Link for RendezvousLink<F> {
    type Error = CarrierError<<F as Fabric>::Error>;

    #[inline]
    fn send(&mut self, word: Word, mut cx: Option<&mut Context<'_>>) -> Poll<Result<(), Self::Error>> {
        let mut region = ready!(self.region(cx.as_deref_mut()))?;
        word.put(&mut region);
        loop {
            region = match (self.carrier.try_send_region(region, 0..self.size), &mut cx) {
                (Ok(()), _) => return Poll::Ready(Ok(())),
                (Err(TryRegionError::Failed(error)), _) => return Poll::Ready(Err(error)),
                (Err(TryRegionError::WouldBlock(region)), Some(cx)) => match self.carrier.poll_lend_ready(cx) {
                    Poll::Ready(()) => region,
                    Poll::Pending => {
                        self.idle.push(region);
                        return Poll::Pending;
                    }
                },
                (Err(TryRegionError::WouldBlock(region)), None) => {
                    self.idle.push(region);
                    return Poll::Pending;
                }
            };
        }
    }

    #[inline]
    fn flush(&mut self) -> Result<(), Self::Error> {
        self.carrier.flush()
    }

    #[inline]
    fn recv(&mut self, cx: Option<&mut Context<'_>>) -> Poll<Result<Word, Self::Error>> {
        let message = match (cx, self.carrier.try_recv()) {
            (_, Ok(message)) => message,
            (_, Err(TryError::Failed(error))) => return Poll::Ready(Err(error)),
            (None, Err(TryError::WouldBlock)) => return Poll::Pending,
            (Some(cx), Err(TryError::WouldBlock)) => match ready!(self.carrier.poll_recv(cx)) {
                Ok(message) => message,
                Err(error) => return Poll::Ready(Err(error)),
            },
        };
        Poll::Ready(Ok(message.map_or(STRANGE, |message| word_of(&message, self.size))))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.carrier.poll_close(cx)
    }
}

/// Messages of one size in a stream of bytes, copied in and copied out as by `send` and `recv` of a socket.
pub(crate) struct StreamLink<T: Track<Delivery: Lossless + InOrder>> {
    stream: StreamCarrier<T>,
    sending: Part,
    receiving: Part,
}

/// A message, and how much of it is done.
struct Part {
    message: Vec<u8>,
    done: usize,
}

impl Part {
    fn new(size: usize) -> Self {
        Self { message: vec![0; size], done: 0 }
    }

    /// Notes that `more` bytes are done, and whether that was all: then the next message begins.
    #[inline]
    fn advance(&mut self, more: usize) -> bool {
        self.done += more;
        let all = self.done == self.message.len();
        if all {
            self.done = 0;
        }
        all
    }

    /// Takes as many bytes as the message lacks: how many that were, and the word of the message if it is whole. No bytes are the
    /// end, which is no message.
    #[inline]
    fn take(&mut self, bytes: &[u8]) -> (usize, Option<Word>) {
        if bytes.is_empty() {
            return (0, Some(STRANGE));
        }
        let room = &mut self.message[self.done..];
        let len = bytes.len().min(room.len());
        room[..len].copy_from_slice(&bytes[..len]);
        (len, self.advance(len).then(|| Word::take(&self.message)))
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> StreamLink<T> {
    pub(crate) fn new(stream: StreamCarrier<T>, size: usize) -> Self {
        Self { stream, sending: Part::new(size), receiving: Part::new(size) }
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> Link for StreamLink<T> {
    type Error = CarrierError<T::Error>;

    #[inline]
    fn send(&mut self, word: Word, mut cx: Option<&mut Context<'_>>) -> Poll<Result<(), Self::Error>> {
        if self.sending.done == 0 {
            word.put(&mut self.sending.message);
        }
        loop {
            let rest = &self.sending.message[self.sending.done..];
            let put = match (self.stream.try_put(rest), &mut cx) {
                (Err(TryError::WouldBlock), Some(cx)) => ready!(self.stream.poll_put(cx, &[IoSlice::new(rest)])),
                (Err(TryError::WouldBlock), None) => return Poll::Pending,
                (Err(TryError::Failed(error)), _) => Err(error),
                (Ok(put), _) => Ok(put),
            };
            match put {
                Ok(put) if self.sending.advance(put) => return Poll::Ready(Ok(())),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Each write is on its way when it returns.
    #[inline]
    fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    #[inline]
    fn recv(&mut self, mut cx: Option<&mut Context<'_>>) -> Poll<Result<Word, Self::Error>> {
        loop {
            let arrived = match self.stream.try_fill() {
                Ok(bytes) => Some(self.receiving.take(bytes)),
                Err(TryError::WouldBlock) => None,
                Err(TryError::Failed(error)) => return Poll::Ready(Err(error)),
            };
            let (len, whole) = match (arrived, &mut cx) {
                (Some(taken), _) => taken,
                (None, None) => return Poll::Pending,
                (None, Some(cx)) => match ready!(self.stream.poll_fill(cx)) {
                    Ok(bytes) => self.receiving.take(bytes),
                    Err(error) => return Poll::Ready(Err(error)),
                },
            };
            self.stream.consume(len);
            if let Some(word) = whole {
                return Poll::Ready(Ok(word));
            }
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.stream.poll_close(cx)
    }
}
