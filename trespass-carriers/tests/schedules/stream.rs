//! The stream carrier, plugged in: whole, and in halves.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::IoSlice;
use std::task::{Context, Poll, Waker};

use trespass_carriers::{CarrierError, StreamCarrier, StreamConfig, StreamReadHalf, StreamWriteHalf};
use trespass_core::{ErrorKind, Role, TryError};
use trespass_mock::{MockConfig, MockError, MockFabric, MockNet, MockSpawner, MockTrack};

use crate::dice::Dice;
use crate::end::{self, Actor, Known};
use crate::halves::{Halved, halved};
use crate::message::{beats, small_tracks};
use crate::subject::{Heard, Promise, Receives, Sending, Sends, Subject, kind};

type Error = CarrierError<MockError>;

/// The longest that is written at a time.
const LONGEST: usize = 1500;

/// `data` in up to three pieces.
fn pieces<'a>(data: &'a [u8], dice: &mut Dice) -> [IoSlice<'a>; 3] {
    let (first, rest) = data.split_at(dice.index(data.len() + 1));
    let (second, third) = rest.split_at(dice.index(rest.len() + 1));
    [IoSlice::new(first), IoSlice::new(second), IoSlice::new(third)]
}

/// Writing, for whoever has a `stream`, and can [`poll_put`] without waiting for a peer that waits for it.
macro_rules! writes {
    ($end:ty) => {
        impl Sends for $end {
            fn longest(&self) -> usize {
                LONGEST
            }

            /// All of it, or what there is room for; in one piece, or gathered. What had gone before it was given up has gone.
            async fn send(
                &mut self,
                data: &[u8],
                sending: Sending<'_>,
                dice: &mut Dice,
            ) -> Result<Option<usize>, ErrorKind> {
                let whole = dice.one_in(2);
                let mut put = 0;
                let writing = async {
                    while put < data.len() {
                        let pieces = pieces(&data[put..], dice);
                        put += poll_fn(|cx| self.poll_put(cx, &pieces)).await.map_err(kind)?;
                        if !whole {
                            break;
                        }
                    }
                    Ok(())
                };
                match sending.wait(writing).await {
                    Some(Err(error)) => Err(error),
                    Some(Ok(())) => Ok(Some(put)),
                    None => Ok((put > 0).then_some(put)),
                }
            }

            fn other(&mut self, data: &[u8], dice: &mut Dice) -> Result<Option<usize>, ErrorKind> {
                let mut cx = Context::from_waker(Waker::noop());
                match dice.below(3) {
                    0 => match self.stream.poll_push(&mut cx) {
                        Poll::Ready(Err(error)) => Err(kind(error)),
                        _ => Ok(None),
                    },
                    1 => match self.stream.poll_put(&mut cx, &pieces(data, dice)) {
                        Poll::Ready(put) => put.map(Some).map_err(kind),
                        Poll::Pending => Ok(None),
                    },
                    _ => match self.stream.try_put(data) {
                        Ok(put) => Ok(Some(put)),
                        Err(TryError::WouldBlock) => Ok(None),
                        Err(TryError::Failed(error)) => Err(kind(error)),
                    },
                }
            }

            async fn finish(&mut self) -> Result<(), ErrorKind> {
                self.stream.finish().await.map_err(kind)
            }
        }
    };
}

/// Reads in one of the ways there are; nothing at the end.
macro_rules! reads {
    () => {
        /// In place, to the end of what is there or not; or copied into pieces.
        async fn read(&mut self, keep: bool, dice: &mut Dice) -> Result<Vec<u8>, ErrorKind> {
            #[cfg(feature = "futures-io")]
            if !keep && dice.one_in(3) {
                return copied(&mut self.stream, dice).await;
            }
            let bytes = self.stream.fill().await.map_err(kind)?;
            let len = match bytes.len() {
                len if len > 1 && (keep || dice.one_in(3)) => 1 + dice.index(len - 1),
                len => len,
            };
            let read = bytes[..len].to_vec();
            self.stream.consume(len);
            Ok(read)
        }
    };
}

/// What `AsyncRead` reads into two pieces.
#[cfg(feature = "futures-io")]
async fn copied(stream: &mut (impl futures_util::AsyncRead + Unpin), dice: &mut Dice) -> Result<Vec<u8>, ErrorKind> {
    use futures_util::AsyncReadExt;
    use std::io::IoSliceMut;

    let (mut first, mut second) = (vec![0; dice.index(300)], vec![0; 1 + dice.index(1000)]);
    let mut places = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
    let read = stream.read_vectored(&mut places).await.map_err(|error| {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
        cause.cloned().map_or(ErrorKind::Protocol, kind)
    })?;
    let mut all = [first, second].concat();
    all.truncate(read);
    Ok(all)
}

pub(crate) struct StreamEnd {
    stream: StreamCarrier<MockTrack>,
    /// What was read while a write waited.
    read_ahead: VecDeque<Vec<u8>>,
}

impl StreamEnd {
    /// Reads while it waits, as everybody must whose peer may do the same: else both may wait for one another.
    fn poll_put(&mut self, cx: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<Result<usize, Error>> {
        let put = self.stream.poll_put(cx, bytes);
        while put.is_pending() {
            let Poll::Ready(Ok(bytes @ [_, ..])) = self.stream.poll_fill(cx) else { break };
            let (bytes, len) = (bytes.to_vec(), bytes.len());
            self.read_ahead.push_back(bytes);
            self.stream.consume(len);
        }
        put
    }

    reads!();
}

writes!(StreamEnd);

impl Receives for StreamEnd {
    async fn recv(&mut self, keep: bool, dice: &mut Dice) -> Result<Heard, ErrorKind> {
        if let Some(bytes) = self.read_ahead.pop_front() {
            return Ok(Heard::Data(bytes));
        }
        self.read(keep, dice).await.map(heard)
    }

    fn let_go(&mut self) {}
}

fn heard(read: Vec<u8>) -> Heard {
    match read.is_empty() {
        true => Heard::Goodbye,
        false => Heard::Data(read),
    }
}

impl Subject for StreamEnd {
    type Fabric = MockFabric;
    type Setup = (MockConfig, StreamConfig);
    const PROMISE: Promise = Promise::Bytes;
    const MAY_PART: bool = true;
    const SEEN: [&'static str; 4] = ["frames", "bytes", "credits alone", "without credits"];

    fn setup(dice: &mut Dice) -> Self::Setup {
        (small_tracks(dice), StreamConfig::default().with_keepalive(beats(dice)).with_coalesce(dice.one_in(3)))
    }

    fn fabric(net: &MockNet, (track, _): &Self::Setup) -> (MockFabric, MockFabric) {
        let fabric = net.fabric(track.clone()).expect("a good configuration");
        (fabric.clone(), fabric)
    }

    async fn open(track: MockTrack, role: Role, _: MockFabric, (_, config): Self::Setup) -> Result<Self, ErrorKind> {
        let stream = StreamCarrier::open(track, role, config).await.map_err(kind)?;
        Ok(Self { stream, read_ahead: VecDeque::new() })
    }

    async fn close(&mut self) -> Result<(), ErrorKind> {
        self.stream.close().await.map_err(kind)
    }

    fn seen(&self) -> [u64; 4] {
        let stats = self.stream.stats();
        [stats.frames_received, stats.bytes_received, stats.credit_updates_received, stats.stalls]
    }

    async fn act(self, mut actor: Actor, operations: u64, spawner: MockSpawner) -> Known {
        match actor.dice.one_in(3) {
            true => halved(self, actor, operations, spawner).await,
            false => end::whole(self, actor, operations).await,
        }
    }
}

/// The half that writes.
pub(crate) struct StreamWrites {
    stream: StreamWriteHalf<MockTrack>,
}

impl StreamWrites {
    fn poll_put(&mut self, cx: &mut Context<'_>, bytes: &[IoSlice<'_>]) -> Poll<Result<usize, Error>> {
        self.stream.poll_put(cx, bytes)
    }
}

writes!(StreamWrites);

/// The half that reads.
pub(crate) struct StreamReads {
    stream: StreamReadHalf<MockTrack>,
}

impl StreamReads {
    reads!();
}

impl Receives for StreamReads {
    async fn recv(&mut self, keep: bool, dice: &mut Dice) -> Result<Heard, ErrorKind> {
        self.read(keep, dice).await.map(heard)
    }

    fn let_go(&mut self) {}
}

impl Halved for StreamEnd {
    type Sender = StreamWrites;
    type Receiver = StreamReads;
    const DROP_ENDS: bool = true;
    const DISCARDS: bool = false;

    fn split(self) -> (StreamWrites, StreamReads) {
        let (read, write) = self.stream.into_split();
        (StreamWrites { stream: write }, StreamReads { stream: read })
    }

    async fn close_both(sender: StreamWrites, receiver: StreamReads, actor: &mut Actor) {
        let stream = StreamCarrier::unsplit(receiver.stream, sender.stream).expect("two halves of one");
        actor.close(&mut Self { stream, read_ahead: VecDeque::new() }).await;
    }

    /// A half cannot close: to drop it ends all.
    async fn close_half(sender: StreamWrites) -> Option<Result<(), ErrorKind>> {
        drop(sender);
        None
    }
}
