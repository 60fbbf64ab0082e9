//! The stream carrier: the state machines of this folder, joined to a track.

mod close;
mod config;
mod halves;
mod inbound;
mod io;
mod link;
#[cfg(all(test, loom))]
mod loom_tests;
mod open;
mod outbound;
mod reader;
mod stats;

use std::fmt;
use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::task::{Context, Poll, ready};

use trespass_core::{Carrier, InOrder, Lossless, Role, Track, TryError};

use crate::error::CarrierError;
use link::Link;
use outbound::Slices;
use reader::{Reach, Reader};

pub use config::StreamConfig;
pub use halves::{StreamReadHalf, StreamWriteHalf};
pub use open::StreamOpening;
pub use stats::StreamStats;

/// A stream of bytes each way, over any track that loses nothing and keeps order: what a TCP socket is, on RDMA.
///
/// With the feature `tokio` it is tokio's `AsyncRead`, `AsyncBufRead` and `AsyncWrite`, with `futures-io` those of
/// futures-io; so whatever talks through these (`copy_bidirectional`, hyper, tonic) talks through it. What it offers
/// without either is below: [`fill`](Self::fill) and [`consume`](Self::consume) to read in place, [`put`](Self::put) to write.
///
/// ```
/// use trespass_carriers::{StreamCarrier, StreamConfig};
/// use trespass_core::{Fabric, Incoming, ListenerExt, Role};
/// use trespass_mock::MockFabric;
///
/// let fabric = MockFabric::new();
/// let mut listener = fabric.listen(&"here".parse()?)?;
/// let connecting = fabric.connect(&"here".parse()?);
/// let server = std::thread::spawn(move || {
///     futures_executor::block_on(async {
///         let track = listener.incoming().await.unwrap().accept().await.unwrap();
///         let mut stream = StreamCarrier::open(track, Role::Acceptor, StreamConfig::default()).await.unwrap();
///         // Says everything again, until the peer has finished.
///         while let bytes @ [_, ..] = stream.fill().await.unwrap() {
///             let bytes = bytes.to_vec();
///             stream.consume(bytes.len());
///             stream.put_all(&bytes).await.unwrap();
///         }
///         stream.finish().await.unwrap();
///     });
/// });
/// futures_executor::block_on(async {
///     let mut stream = StreamCarrier::open(connecting.await?, Role::Connector, StreamConfig::default()).await?;
///     stream.put_all(b"hello").await?;
///     stream.finish().await?;
///     let mut heard = Vec::new();
///     while let bytes @ [_, ..] = stream.fill().await? {
///         heard.extend_from_slice(bytes);
///         let len = bytes.len();
///         stream.consume(len);
///     }
///     assert_eq!(heard, b"hello");
///     Ok::<_, Box<dyn std::error::Error>>(())
/// })?;
/// server.join().unwrap();
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// Over a track that may lose or reorder messages there is no stream: that does not compile, and the compiler says why.
///
/// # When bytes go out
/// A write is on its way when it returns: nobody has to flush, as on a socket. It takes no bytes that it cannot send at once,
/// since a stream has no background work that could send them later; so a writer waits where a socket would buffer.
/// A write that is small is a small frame; gathered pieces (`poll_write_vectored`) share one, and
/// [`StreamConfig::coalesce`] has small writes wait for each other, for those who do flush.
///
/// # Costs
/// 8 bytes of header for each frame of the track, or none where that
/// [carries immediate data](trespass_core::SendSide::carries_immediate). A byte is copied once into registered memory and once out of it, or not at
/// all with [`fill`](Self::fill) (tokio's and futures-io's `AsyncBufRead`). After the handshake nothing allocates, but for a
/// little at an end, and for the queue of what arrives while this end only writes, which grows to what credits allow.
/// One doorbell for each write. A halved stream takes an uncontended lock for each call, and for each frame that is read.
///
/// # Back-pressure
/// What the peer sent and this end has not read lies in the receive slots of the track: when these are taken the peer's
/// writes wait, and so do this end's where the peer does not read either. Two ends that both write more than all slots hold,
/// and read nothing until that is done, wait for each other as they would on sockets; read meanwhile, in another task or in
/// the same one. A write that waits takes in what arrives, so it needs no reader to get its credits.
///
/// # Ends
/// - [`finish`](Self::finish) (`poll_shutdown`, `poll_close` of the traits) says that no more bytes come: the peer
///   reads to the end of all that was written, and then an end of file. The other direction goes on. It is ready when all
///   has arrived at the peer's device: **who drops a stream after that takes nothing from the peer**.
/// - [`close`](Self::close) also says that nothing will be read any more, and ends the track, within a deadline.
/// - A stream that is dropped without either is, to its peer, gone: after the bytes that had arrived, an error of kind
///   `Disconnected`, not an end of file. What had not arrived is lost.
///
/// # Errors
/// Of the traits: an [`std::io::Error`] whose source is the [`CarrierError`]: `ConnectionReset` for a peer that
/// is gone, `InvalidData` for one that spoke nonsense, `BrokenPipe` for a write after the end, `TimedOut`. Errors
/// stick, and come after all bytes that had arrived.
///
/// # Cancel safety
/// Futures of `fill`, `put`, `finish` and `close` may be dropped at any point and lose nothing; of `put_all`, as of any
/// `write_all`, some bytes may have gone.
pub struct StreamCarrier<T: Track<Delivery: Lossless + InOrder>> {
    link: Link<T>,
    reader: Reader<T::RecvBuf>,
}

// Nothing in it is pinned.
impl<T: Track<Delivery: Lossless + InOrder>> Unpin for StreamCarrier<T> {}

impl<T: Track<Delivery: Lossless + InOrder>> StreamCarrier<T> {
    /// Takes `track` over and shakes hands: see [`Carrier::open`]. Dropping the future drops the track.
    ///
    /// # Errors
    /// Kind `Config` where a setting or the track will not do; `Refused`, on both ends, where they do not suit each other (the
    /// peer is no stream, for one), with the reason; `TimedOut` past `open_timeout`; `Protocol` where the peer spoke nonsense;
    /// `Disconnected`.
    pub fn open(track: T, role: Role, config: StreamConfig) -> StreamOpening<T> {
        StreamOpening::new(track, role, config)
    }

    /// Two halves for two tasks or threads, each with a waker of its own.
    ///
    /// [`unsplit`](Self::unsplit) makes them one again.
    ///
    /// # Costs
    /// One allocation, and the lock that the halves share. Measured in process, with nobody else at the lock
    /// (`scripts/bench-mock`, which counts instructions): 64 bytes there and 64 back take 3,063 instructions by halves and 2,854
    /// by the whole. What a wait for the other half costs was not measured.
    pub fn into_split(self) -> (StreamReadHalf<T>, StreamWriteHalf<T>) {
        halves::split(self.link, self.reader)
    }

    /// The stream that two halves came from.
    ///
    /// # Errors
    /// The halves of two streams come back.
    pub fn unsplit(
        read: StreamReadHalf<T>,
        write: StreamWriteHalf<T>,
    ) -> Result<Self, (StreamReadHalf<T>, StreamWriteHalf<T>)> {
        halves::unsplit(read, write).map(|(link, reader)| Self { link, reader })
    }

    /// What was done so far.
    pub fn stats(&self) -> StreamStats {
        self.link.stats
    }

    /// Which process the peer is: a number that it chose when it started.
    pub fn peer_incarnation(&self) -> u64 {
        self.link.peer_incarnation
    }

    /// The track below, for its limits and addresses; `None` once it has ended, or is closing.
    pub fn track(&self) -> Option<&T> {
        self.link.track.as_ref()
    }

    /// Says goodbye and ends the track: see [`poll_close`](Carrier::poll_close). What was written is sent; what the peer
    /// still sends, and what was not read yet, is discarded. Idempotent; dropping the future loses nothing: call again to
    /// go on.
    ///
    /// # Errors
    /// Kind `TimedOut` past `close_timeout`; else what kept the end from being clean.
    pub fn close(&mut self) -> impl Future<Output = Result<(), CarrierError<T::Error>>> + use<'_, T> {
        poll_fn(|cx| Carrier::poll_close(self, cx))
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> Carrier for StreamCarrier<T> {
    type Track = T;
    type Config = StreamConfig;
    type Error = CarrierError<T::Error>;
    type Opening = StreamOpening<T>;

    fn open(track: T, role: Role, config: StreamConfig) -> StreamOpening<T> {
        StreamOpening::new(track, role, config)
    }

    fn most_memory(_: &StreamConfig) -> usize {
        0
    }

    fn incarnation(&self) -> Option<u64> {
        Some(self.peer_incarnation())
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError<T::Error>>> {
        self.reader.discard();
        self.link.poll_goodbye(cx)
    }
}

/// Reading, for whoever has a reader.
macro_rules! reading {
    ($stream:ident) => {
        impl<T: Track<Delivery: Lossless + InOrder>> $stream<T> {
            /// Waits for bytes, and lends them where the device wrote them: one frame of the track, or what is left of it.
            /// Empty after the peer's last, again and again. What was read is said by [`consume`](Self::consume).
            ///
            /// # Errors
            /// After all bytes that had arrived: kind `Disconnected` where the track ended and the peer had not finished,
            /// `Protocol` where it spoke nonsense, `Closed` after a close of this end; else what ended the track.
            pub async fn fill(&mut self) -> Result<&[u8], CarrierError<T::Error>> {
                poll_fn(|cx| self.reader.poll_ready(&mut self.link, cx)).await?;
                Ok(self.reader.bytes())
            }

            /// [`fill`](Self::fill), in the form of a poll. One waker: the latest wins. Before it waits it sends what was
            /// written and waits for more, and gives the peer its credits.
            ///
            /// # Errors
            /// As `fill`.
            pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], CarrierError<T::Error>>> {
                ready!(self.reader.poll_ready(&mut self.link, cx))?;
                Poll::Ready(Ok(self.reader.bytes()))
            }

            /// The same without a wait: arms nothing.
            ///
            /// # Errors
            /// `WouldBlock` while there are none; else as `fill`.
            pub fn try_fill(&mut self) -> Result<&[u8], TryError<CarrierError<T::Error>>> {
                self.reader.try_ready(&mut self.link)?;
                Ok(self.reader.bytes())
            }

            /// Says that `len` of the bytes that were lent are read; more than there were does no harm. A frame that is read
            /// to its end goes back to the track.
            #[inline]
            pub fn consume(&mut self, len: usize) {
                self.reader.consume(len);
            }

            /// Copies what has arrived, and at least something unless the end has come. How much that was.
            #[cfg(any(feature = "tokio", feature = "futures-io"))]
            pub(crate) fn poll_copy(
                &mut self,
                cx: &mut Context<'_>,
                sink: impl FnMut(&[u8]) -> usize,
            ) -> Poll<Result<usize, CarrierError<T::Error>>> {
                ready!(self.reader.poll_ready(&mut self.link, cx))?;
                Poll::Ready(Ok(self.reader.drain_into(&mut self.link, sink)))
            }
        }
    };
}

/// Writing, for whoever has a writer.
macro_rules! writing {
    ($stream:ident) => {
        impl<T: Track<Delivery: Lossless + InOrder>> $stream<T> {
            /// Writes as much of `bytes` as there is room for, and waits until that is something. How much it was: 0 only
            /// for nothing. It is on its way then, unless the stream [coalesces](StreamConfig::coalesce).
            ///
            /// # Errors
            /// Kind `Closed` after a finish or close of this end, or when the peer has left; else what ended the track.
            pub fn put<'a>(
                &'a mut self,
                bytes: &'a [u8],
            ) -> impl Future<Output = Result<usize, CarrierError<T::Error>>> + use<'a, T> {
                poll_fn(|cx| self.poll_put(cx, &[IoSlice::new(bytes)]))
            }

            /// Writes all of `bytes`. If the future is dropped, some of them may have gone.
            ///
            /// # Errors
            /// As [`put`](Self::put).
            pub async fn put_all(&mut self, mut bytes: &[u8]) -> Result<(), CarrierError<T::Error>> {
                while !bytes.is_empty() {
                    let put = self.put(bytes).await?;
                    bytes = bytes.get(put..).unwrap_or_default();
                }
                Ok(())
            }

            /// [`put`](Self::put) of bytes in pieces, in the form of a poll. One waker, which this shares with the other
            /// calls that write: the latest wins. While it waits it takes in what the peer sends.
            ///
            /// # Errors
            /// As `put`.
            pub fn poll_put(
                &mut self,
                cx: &mut Context<'_>,
                bytes: &[IoSlice<'_>],
            ) -> Poll<Result<usize, CarrierError<T::Error>>> {
                self.link.with(|link| {
                    loop {
                        match link.put(&mut Slices::new(bytes)) {
                            Ok(put) => return Poll::Ready(Ok(put)),
                            Err(TryError::Failed(error)) => return Poll::Ready(Err(error)),
                            Err(TryError::WouldBlock) => ready!(link.poll_room(cx)),
                        }
                    }
                })
            }

            /// The same without a wait: arms nothing.
            ///
            /// # Errors
            /// `WouldBlock` while there is no room; else as `put`.
            pub fn try_put(&mut self, bytes: &[u8]) -> Result<usize, TryError<CarrierError<T::Error>>> {
                self.link.with(|link| link.put(&mut Slices::new(&[IoSlice::new(bytes)])))
            }

            /// Sends what was written and waits for more: nothing, unless the stream
            /// [coalesces](StreamConfig::coalesce). Ready when it is on its way.
            ///
            /// # Errors
            /// As [`put`](Self::put).
            pub fn poll_push(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError<T::Error>>> {
                self.link.with(|link| link.poll_flush(cx))
            }

            /// Says that no more bytes come, after all that were written, and waits until they have arrived at the peer's
            /// device: then dropping the stream takes nothing from the peer. The other direction goes on. Idempotent; dropping
            /// the future loses nothing: call again to go on.
            ///
            /// # Errors
            /// What ended the track before it could be said. A peer that has left, or that is gone after it had said all or
            /// heard all, is none.
            pub fn finish(&mut self) -> impl Future<Output = Result<(), CarrierError<T::Error>>> + use<'_, T> {
                poll_fn(|cx| self.poll_finish(cx))
            }

            /// [`finish`](Self::finish), in the form of a poll.
            ///
            /// # Errors
            /// As `finish`.
            pub fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError<T::Error>>> {
                self.link.with(|link| link.poll_finish(cx))
            }
        }
    };
}

reading!(StreamCarrier);
reading!(StreamReadHalf);
writing!(StreamCarrier);
writing!(StreamWriteHalf);

impl<T: Track<Delivery: Lossless + InOrder>> fmt::Debug for StreamCarrier<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamCarrier").field("stats", &self.link.stats).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
