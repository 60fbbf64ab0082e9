//! The carriers that records go through.

use std::future::Future;
use std::marker::PhantomData;
use std::task::{Context, Poll, Waker};

use trespass_carriers::{
    CarrierError, MessageCarrier, MessageConfig, MessageReceiver, MessageSender, RendezvousCarrier, RendezvousConfig,
    StreamCarrier, StreamConfig, StreamReadHalf, StreamWriteHalf,
};
use trespass_core::{ErrorKind, InOrder, Lossless, Role, ThreadFabric, ThreadMemoryFabric, Track, TransportError};

use super::record::{self, HEAD};

/// One end of a lane, as long as its connection lasts: records in order, and a goodbye.
pub(crate) trait Pipe: Sized + Send + 'static {
    type Fabric: ThreadFabric;
    /// Which lane, in numbers.
    const LANE: u64;
    /// And in words.
    const NAME: &'static str;

    fn open(
        fabric: &Self::Fabric,
        track: <Self::Fabric as trespass_core::Fabric>::Track,
        role: Role,
    ) -> impl Future<Output = Result<Self, ErrorKind>> + Send;
    fn send(&mut self, record: &[u8]) -> impl Future<Output = Result<(), ErrorKind>> + Send;
    /// The next record; `false` at the peer's goodbye.
    fn recv(&mut self, into: &mut Vec<u8>) -> impl Future<Output = Result<bool, ErrorKind>> + Send;
    /// Says that no more records come.
    fn finish(&mut self) -> impl Future<Output = Result<(), ErrorKind>> + Send;
    fn close(self) -> impl Future<Output = Result<(), ErrorKind>> + Send;
}

fn kind<E: TransportError>(error: CarrierError<E>) -> ErrorKind {
    error.kind()
}

fn keep(message: Option<impl std::ops::Deref<Target = [u8]>>, into: &mut Vec<u8>) -> bool {
    into.clear();
    match message {
        Some(message) => into.extend_from_slice(&message),
        None => return false,
    }
    true
}

fn messages() -> MessageConfig {
    MessageConfig::default().with_max_message(8 << 20)
}

/// A [`MessageCarrier`], whole.
pub(crate) struct Messages<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>>(MessageCarrier<F::Track>);

impl<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>> Pipe for Messages<F> {
    type Fabric = F;
    const LANE: u64 = 0;
    const NAME: &'static str = "messages";

    async fn open(_: &F, track: F::Track, role: Role) -> Result<Self, ErrorKind> {
        MessageCarrier::open(track, role, messages()).await.map(Self).map_err(kind)
    }

    /// A record and, as an empty message is one too, such a one after each.
    async fn send(&mut self, record: &[u8]) -> Result<(), ErrorKind> {
        self.0.send(record).await.map_err(kind)?;
        self.0.send(&[]).await.map_err(kind)
    }

    async fn recv(&mut self, into: &mut Vec<u8>) -> Result<bool, ErrorKind> {
        if !keep(self.0.recv().await.map_err(kind)?, into) {
            return Ok(false);
        }
        let empty = self.0.recv().await.map_err(kind)?;
        assert_eq!(empty.map(|message| message.len()), Some(0), "an empty message after each record");
        Ok(true)
    }

    async fn finish(&mut self) -> Result<(), ErrorKind> {
        self.0.finish().await.map_err(kind)
    }

    async fn close(mut self) -> Result<(), ErrorKind> {
        self.0.close().await.map_err(kind)
    }
}

/// A [`MessageCarrier`] in its halves.
pub(crate) struct Halves<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>> {
    sender: MessageSender<F::Track>,
    receiver: MessageReceiver<F::Track>,
}

impl<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>> Pipe for Halves<F> {
    type Fabric = F;
    const LANE: u64 = 1;
    const NAME: &'static str = "halves of messages";

    async fn open(_: &F, track: F::Track, role: Role) -> Result<Self, ErrorKind> {
        let (sender, receiver) = MessageCarrier::open(track, role, messages()).await.map_err(kind)?.split();
        Ok(Self { sender, receiver })
    }

    async fn send(&mut self, record: &[u8]) -> Result<(), ErrorKind> {
        self.sender.send(record).await.map_err(kind)
    }

    async fn recv(&mut self, into: &mut Vec<u8>) -> Result<bool, ErrorKind> {
        Ok(keep(self.receiver.recv().await.map_err(kind)?, into))
    }

    async fn finish(&mut self) -> Result<(), ErrorKind> {
        self.sender.finish().await.map_err(kind)
    }

    async fn close(mut self) -> Result<(), ErrorKind> {
        self.sender.close().await.map_err(kind)
    }
}

/// A [`RendezvousCarrier`], which lends what is long.
pub(crate) struct Rendezvous<F: ThreadMemoryFabric<Track: Track<Delivery: Lossless + InOrder>>> {
    carrier: RendezvousCarrier<F>,
    /// Memory that came back.
    idle: Vec<F::Region>,
}

const LEND_FROM: usize = 16 << 10;

impl<F: ThreadMemoryFabric<Track: Track<Delivery: Lossless + InOrder>>> Rendezvous<F> {
    /// Memory for `len` bytes: such as came back, or new.
    fn memory(&mut self, len: usize) -> Result<F::Region, ErrorKind> {
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(region)) = self.carrier.poll_returned(&mut cx) {
            self.idle.push(region);
        }
        if let Some(at) = self.idle.iter().position(|region| region.len() >= len) {
            return Ok(self.idle.swap_remove(at));
        }
        self.idle.truncate(2);
        self.carrier.alloc(len.next_power_of_two()).map_err(kind)
    }
}

impl<F: ThreadMemoryFabric<Track: Track<Delivery: Lossless + InOrder>>> Pipe for Rendezvous<F> {
    type Fabric = F;
    const LANE: u64 = 2;
    const NAME: &'static str = "messages that are lent";

    async fn open(fabric: &F, track: F::Track, role: Role) -> Result<Self, ErrorKind> {
        let config = RendezvousConfig::new(fabric.clone()).with_messages(messages()).with_lend_from(LEND_FROM);
        let carrier = RendezvousCarrier::open(track, role, config).await.map_err(kind)?;
        Ok(Self { carrier, idle: Vec::new() })
    }

    async fn send(&mut self, record: &[u8]) -> Result<(), ErrorKind> {
        if record.len() < LEND_FROM {
            return self.carrier.send(record).await.map_err(kind);
        }
        let mut region = self.memory(record.len())?;
        region[..record.len()].copy_from_slice(record);
        self.carrier.send_region(region, 0..record.len()).await.map_err(kind)
    }

    async fn recv(&mut self, into: &mut Vec<u8>) -> Result<bool, ErrorKind> {
        Ok(keep(self.carrier.recv().await.map_err(kind)?, into))
    }

    async fn finish(&mut self) -> Result<(), ErrorKind> {
        self.carrier.finish().await.map_err(kind)
    }

    async fn close(mut self) -> Result<(), ErrorKind> {
        self.carrier.close().await.map_err(kind)
    }
}

/// A [`StreamCarrier`] in its halves.
pub(crate) struct Bytes<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>> {
    reader: StreamReadHalf<F::Track>,
    writer: StreamWriteHalf<F::Track>,
    fabric: PhantomData<fn(F)>,
}

impl<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>> Bytes<F> {
    /// Reads until there are `len` bytes in `into`, or the end has come. Whether there are.
    async fn read(&mut self, into: &mut Vec<u8>, len: usize) -> Result<bool, ErrorKind> {
        while into.len() < len {
            let bytes = self.reader.fill().await.map_err(kind)?;
            if bytes.is_empty() {
                return Ok(false);
            }
            let take = bytes.len().min(len - into.len());
            into.extend_from_slice(&bytes[..take]);
            self.reader.consume(take);
        }
        Ok(true)
    }
}

impl<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>> Pipe for Bytes<F> {
    type Fabric = F;
    const LANE: u64 = 3;
    const NAME: &'static str = "a stream";

    async fn open(_: &F, track: F::Track, role: Role) -> Result<Self, ErrorKind> {
        let stream = StreamCarrier::open(track, role, StreamConfig::default()).await.map_err(kind)?;
        let (reader, writer) = stream.into_split();
        Ok(Self { reader, writer, fabric: PhantomData })
    }

    async fn send(&mut self, record: &[u8]) -> Result<(), ErrorKind> {
        self.writer.put_all(record).await.map_err(kind)
    }

    async fn recv(&mut self, into: &mut Vec<u8>) -> Result<bool, ErrorKind> {
        into.clear();
        if !self.read(into, HEAD).await? {
            assert!(into.is_empty(), "an end of file in the middle of a head");
            return Ok(false);
        }
        let whole = HEAD + record::body_len(into);
        assert!(self.read(into, whole).await?, "an end of file in the middle of a record");
        Ok(true)
    }

    async fn finish(&mut self) -> Result<(), ErrorKind> {
        self.writer.finish().await.map_err(kind)
    }

    /// Whoever has finished may let go.
    async fn close(self) -> Result<(), ErrorKind> {
        Ok(())
    }
}
