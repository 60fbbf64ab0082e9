//! The carrier that `docs/guide/own-carrier.md` writes: lines of text, over any fabric.
#![cfg(feature = "mock")]

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use thiserror::Error;
use trespass::carriers::{CarrierError, MessageCarrier, MessageConfig, MessageOpening};
use trespass::core::{
    Carrier, ErrorKind, Fabric, InOrder, Incoming, ListenerExt, Lossless, Role, Track, TransportError,
};
use trespass::mock::{MockConfig, MockFabric, MockPlan, MockSim, explore};

/// Lines of text, both ways, over any track that loses nothing and keeps order.
struct Lines<T: Track<Delivery: Lossless + InOrder>> {
    /// `None` once the peer broke the protocol.
    carrier: Option<MessageCarrier<T>>,
}

/// What goes wrong with lines over a track whose own errors are `E`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
enum LinesError<E> {
    #[error(transparent)]
    Carrier(#[from] CarrierError<E>),
    #[error("the peer sent a line that is no text: its program is another, or of another version")]
    NoText,
}

impl<E: TransportError> TransportError for LinesError<E> {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Carrier(error) => error.kind(),
            Self::NoText => ErrorKind::Protocol,
        }
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> Lines<T> {
    /// Sends one line. Dropped before it is ready, nothing of the line arrives.
    async fn send(&mut self, line: &str) -> Result<(), LinesError<T::Error>> {
        let carrier = self.carrier.as_mut().ok_or(LinesError::NoText)?;
        Ok(carrier.send(line.as_bytes()).await?)
    }

    /// The next line; `None` after the last. Dropping the future loses nothing.
    async fn recv(&mut self) -> Result<Option<String>, LinesError<T::Error>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<String>, LinesError<T::Error>>> {
        let carrier = self.carrier.as_mut().ok_or(LinesError::NoText)?;
        let Some(message) = ready!(carrier.poll_recv(cx))? else { return Poll::Ready(Ok(None)) };
        match std::str::from_utf8(&message) {
            Ok(line) => Poll::Ready(Ok(Some(line.to_owned()))),
            Err(_) => {
                // Ends the track: to the peer this end is gone.
                self.carrier = None;
                Poll::Ready(Err(LinesError::NoText))
            }
        }
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> Carrier for Lines<T> {
    type Track = T;
    type Config = MessageConfig;
    type Error = LinesError<T::Error>;
    type Opening = Opening<T>;

    fn open(track: T, role: Role, config: MessageConfig) -> Opening<T> {
        Opening(MessageCarrier::open(track, role, config))
    }

    fn most_memory(config: &MessageConfig) -> usize {
        MessageCarrier::<T>::most_memory(config)
    }

    fn incarnation(&self) -> Option<u64> {
        self.carrier.as_ref().map(MessageCarrier::peer_incarnation)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let carrier = self.carrier.as_mut().ok_or(LinesError::NoText)?;
        carrier.poll_close(cx).map_err(LinesError::Carrier)
    }
}

/// A handshake in progress. Dropping it drops the track.
struct Opening<T: Track<Delivery: Lossless + InOrder>>(MessageOpening<T>);

impl<T: Track<Delivery: Lossless + InOrder>> Future for Opening<T> {
    type Output = Result<Lines<T>, LinesError<T::Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let carrier = ready!(Pin::new(&mut self.0).poll(cx))?;
        Poll::Ready(Ok(Lines { carrier: Some(carrier) }))
    }
}

type MockTrack = <MockFabric as Fabric>::Track;
type Heard = Result<Vec<String>, ErrorKind>;

/// One simulation: a server that takes lines until the end, and what becomes of it when `connector` has its way.
fn run<F: Future<Output = ()>>(seed: u64, connector: impl FnOnce(MockTrack) -> F + 'static) -> Result<Heard, String> {
    let mut sim = MockSim::new(seed, MockPlan::seeded(seed, 2));
    let [server, client] = [(); 2].map(|()| sim.net().fabric(MockConfig::default()).expect("the defaults will do"));
    let addr = "lines".parse().expect("an address");
    let mut listener = server.listen(&addr).expect("a listener");
    let heard = sim.spawn("server", async move {
        let track = listener.incoming().await.expect("a request").accept().await.expect("a track");
        let mut lines = Lines::open(track, Role::Acceptor, MessageConfig::default()).await.expect("a handshake");
        let mut heard = Vec::new();
        while let Some(line) = lines.recv().await.map_err(|error| error.kind())? {
            heard.push(line);
        }
        poll_fn(|cx| lines.poll_close(cx)).await.map_err(|error| error.kind())?;
        Ok(heard)
    });
    sim.spawn("client", async move {
        connector(client.connect(&addr).await.expect("a track")).await;
    });
    sim.run().map_err(|failure| failure.to_string())?;
    heard.output().ok_or_else(|| "the server is not done".to_owned())
}

#[test]
fn lines_arrive_in_order() {
    explore(100, |seed| {
        let heard = run(seed, |track| async {
            let mut lines = Lines::open(track, Role::Connector, MessageConfig::default()).await.expect("a handshake");
            for line in ["one", "", "three"] {
                lines.send(line).await.expect("a live track");
            }
            poll_fn(|cx| lines.poll_close(cx)).await.expect("a clean end");
        })?;
        let all = ["one", "", "three"].map(str::to_owned).to_vec();
        if heard == Ok(all) { Ok(()) } else { Err(format!("{heard:?}")) }
    });
}

#[test]
fn what_is_no_text_ends_the_conversation() {
    explore(100, |seed| {
        let heard = run(seed, |track| async {
            // A stranger, one layer below.
            let messages = MessageCarrier::open(track, Role::Connector, MessageConfig::default());
            let mut messages = messages.await.expect("a handshake");
            messages.send(b"\xff").await.expect("a live track");
            let end = messages.recv().await.map(|message| message.is_some()).map_err(|error| error.kind());
            assert_eq!(end, Err(ErrorKind::Disconnected));
        })?;
        if heard == Err(ErrorKind::Protocol) { Ok(()) } else { Err(format!("{heard:?}")) }
    });
}
