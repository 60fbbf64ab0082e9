//! Halves of a carrier, and streams whole and halved, measured as tracks and carriers are.

use trespass::carriers::{
    CarrierError, MessageReceiver, MessageSender, StreamCarrier, StreamReadHalf, StreamWriteHalf,
};
use trespass::core::{InOrder, Lossless, Track, TryError};

use crate::link::{Link, Result, number, put_number};

/// A message carrier in its halves, both used by one thread: nobody else ever has the lock.
pub(crate) struct HalvesLink<T: Track<Delivery: Lossless + InOrder>> {
    pub(crate) sender: MessageSender<T>,
    pub(crate) receiver: MessageReceiver<T>,
}

impl<T: Track<Delivery: Lossless + InOrder>> Link for HalvesLink<T> {
    type Error = CarrierError<T::Error>;

    #[inline]
    fn try_send(&mut self, size: usize, number: u64) -> Result<bool, Self> {
        let mut buf = match self.sender.try_reserve(size) {
            Ok(buf) => buf,
            Err(TryError::WouldBlock) => return Ok(false),
            Err(TryError::Failed(error)) => return Err(error),
        };
        put_number(&mut buf, number);
        self.sender.send_buf(buf).map_err(|unsent| unsent.error)?;
        Ok(true)
    }

    #[inline]
    fn flush(&mut self) -> Result<(), Self> {
        self.sender.flush()
    }

    #[inline]
    fn try_recv(&mut self) -> Result<Option<u64>, Self> {
        match self.receiver.try_recv() {
            Ok(Some(message)) => Ok(Some(number(&message))),
            // The end: no message has this number.
            Ok(None) => Ok(Some(u64::MAX)),
            Err(TryError::WouldBlock) => Ok(None),
            Err(TryError::Failed(error)) => Err(error),
        }
    }

    #[inline]
    async fn send(&mut self, size: usize, number: u64) -> Result<(), Self> {
        while !self.try_send(size, number)? {
            std::future::poll_fn(|cx| self.sender.poll_send_ready(cx)).await;
        }
        Ok(())
    }

    #[inline]
    async fn recv(&mut self) -> Result<u64, Self> {
        Ok(self.receiver.recv().await?.map_or(u64::MAX, |message| number(&message)))
    }

    async fn close(&mut self) -> Result<(), Self> {
        self.sender.close().await
    }
}

/// A stream, whose writes are one frame each, and so a message.
pub(crate) struct StreamLink<T: Track<Delivery: Lossless + InOrder>> {
    pub(crate) stream: StreamCarrier<T>,
    pub(crate) data: Vec<u8>,
}

/// The same, in its halves.
pub(crate) struct StreamHalvesLink<T: Track<Delivery: Lossless + InOrder>> {
    pub(crate) reader: StreamReadHalf<T>,
    pub(crate) writer: StreamWriteHalf<T>,
    pub(crate) data: Vec<u8>,
}

/// The methods of a link whose bytes `$write` and `$read` by.
macro_rules! link_of_bytes {
    ($link:ident, $writer:ident, $reader:ident) => {
        impl<T: Track<Delivery: Lossless + InOrder>> Link for $link<T> {
            type Error = CarrierError<T::Error>;

            #[inline]
            fn try_send(&mut self, size: usize, number: u64) -> Result<bool, Self> {
                put_number(&mut self.data, number);
                match self.$writer.try_put(&self.data[..size]) {
                    Ok(put) => {
                        assert_eq!(put, size, "a write is one frame");
                        Ok(true)
                    }
                    Err(TryError::WouldBlock) => Ok(false),
                    Err(TryError::Failed(error)) => Err(error),
                }
            }

            /// A write is on its way when it returns.
            #[inline]
            fn flush(&mut self) -> Result<(), Self> {
                Ok(())
            }

            #[inline]
            fn try_recv(&mut self) -> Result<Option<u64>, Self> {
                let (number, len) = match self.$reader.try_fill() {
                    Ok(bytes) => (number(bytes), bytes.len()),
                    Err(TryError::WouldBlock) => return Ok(None),
                    Err(TryError::Failed(error)) => return Err(error),
                };
                self.$reader.consume(len);
                Ok(Some(number))
            }

            #[inline]
            async fn send(&mut self, size: usize, number: u64) -> Result<(), Self> {
                put_number(&mut self.data, number);
                self.$writer.put_all(&self.data[..size]).await
            }

            #[inline]
            async fn recv(&mut self) -> Result<u64, Self> {
                let bytes = self.$reader.fill().await?;
                let (number, len) = (number(bytes), bytes.len());
                self.$reader.consume(len);
                Ok(number)
            }

            async fn close(&mut self) -> Result<(), Self> {
                self.$writer.finish().await
            }
        }
    };
}

link_of_bytes!(StreamLink, stream, stream);
link_of_bytes!(StreamHalvesLink, writer, reader);
