//! Messages of one size in a stream of bytes, copied in and copied out as by `send` and `recv` of a socket.

use trespass::carriers::{CarrierError, StreamCarrier};
use trespass::core::{InOrder, Lossless, Track, TryError};

use crate::link::{Link, Result, number, put_number};

pub(crate) struct BytesLink<T: Track<Delivery: Lossless + InOrder>> {
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
        Self { message: vec![1; size], done: 0 }
    }

    /// Notes that `more` bytes are done, and whether that was all: then the next message begins.
    fn advance(&mut self, more: usize) -> bool {
        self.done += more;
        let all = self.done == self.message.len();
        if all {
            self.done = 0;
        }
        all
    }

    /// Takes as many bytes as the message lacks: how many that were, and the number of the message if it is whole.
    fn take(&mut self, bytes: &[u8]) -> (usize, Option<u64>) {
        let room = &mut self.message[self.done..];
        let len = bytes.len().min(room.len());
        room[..len].copy_from_slice(&bytes[..len]);
        (len, self.advance(len).then(|| number(&self.message)))
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> BytesLink<T> {
    pub(crate) fn new(stream: StreamCarrier<T>, size: usize) -> Self {
        Self { stream, sending: Part::new(size), receiving: Part::new(size) }
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> Link for BytesLink<T> {
    type Error = CarrierError<T::Error>;

    fn try_send(&mut self, _: usize, number: u64) -> Result<bool, Self> {
        if self.sending.done == 0 {
            put_number(&mut self.sending.message, number);
        }
        loop {
            match self.stream.try_put(&self.sending.message[self.sending.done..]) {
                Ok(put) if self.sending.advance(put) => return Ok(true),
                Ok(_) => {}
                Err(TryError::WouldBlock) => return Ok(false),
                Err(TryError::Failed(error)) => return Err(error),
            }
        }
    }

    /// Each write is on its way when it returns.
    fn flush(&mut self) -> Result<(), Self> {
        Ok(())
    }

    fn try_recv(&mut self) -> Result<Option<u64>, Self> {
        loop {
            let (len, whole) = match self.stream.try_fill() {
                // The end: no message has this number.
                Ok([]) => return Ok(Some(u64::MAX)),
                Ok(bytes) => self.receiving.take(bytes),
                Err(TryError::WouldBlock) => return Ok(None),
                Err(TryError::Failed(error)) => return Err(error),
            };
            self.stream.consume(len);
            if whole.is_some() {
                return Ok(whole);
            }
        }
    }

    async fn send(&mut self, _: usize, number: u64) -> Result<(), Self> {
        put_number(&mut self.sending.message, number);
        self.stream.put_all(&self.sending.message).await
    }

    async fn recv(&mut self) -> Result<u64, Self> {
        loop {
            let (len, whole) = match self.stream.fill().await? {
                [] => return Ok(u64::MAX),
                bytes => self.receiving.take(bytes),
            };
            self.stream.consume(len);
            if let Some(number) = whole {
                return Ok(number);
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self> {
        self.stream.close().await
    }
}
