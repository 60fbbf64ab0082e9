//! One server, and any carrier on it: the same exercise for each, over any fabric.

use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::thread;
use std::time::{Duration, Instant};

use trespass::carriers::{
    Accepted, DatagramCarrier, DatagramConfig, MessageCarrier, MessageConfig, Peer, RendezvousCarrier,
    RendezvousConfig, Server, ServerConfig, StreamCarrier, StreamConfig,
};
use trespass::core::{
    Address, Carrier, Datagram, ErrorKind, Fabric, InOrder, Lossless, MemoryFabric, Role, ThreadFabric, ThreadTrack,
    Track, TransportError, wait_within,
};

#[path = "../../examples/custom_carrier/pubsub/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the example uses the rest")]
pub(crate) mod pubsub;

use pubsub::{Feed, Publisher, PublisherConfig, Subscriber, message_config};

/// Nothing here takes longer, or it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn within<F: Future>(future: F) -> F::Output {
    wait_within(PATIENCE, future).expect("it hangs")
}

/// Waits until `condition` holds, which another thread sees to.
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        thread::yield_now();
    }
}

/// Two fabrics that reach each other, and where to listen.
#[derive(Clone)]
pub(crate) struct Ends<F: Fabric> {
    pub(crate) server: F,
    pub(crate) client: F,
    pub(crate) addr: F::Addr,
}

/// What the exercise does with a carrier, beside what every carrier can.
pub(crate) trait Conversation: Carrier<Config: Send, Opening: Send> + Send + 'static {
    /// The other end: of the same kind, mostly.
    type Client: Carrier<Track = Self::Track, Config = Self::Config, Error: Debug>;
    /// Whether the server notices that a client died.
    const NOTICES_DEATH: bool = true;

    /// The server's part, until the client leaves, or the server drains; then a goodbye.
    fn answer<A: Address>(self, peer: &Peer<A>) -> impl Future<Output = ()>;
    /// One question of the client's, and its answer.
    fn ask(client: &mut Self::Client) -> impl Future<Output = ()>;
    /// Hears the server's goodbye, and nothing before it.
    fn goodbye(client: &mut Self::Client) -> impl Future<Output = ()>;
}

async fn close<C: Carrier>(carrier: &mut C) {
    // The other end may have been first.
    let _ = poll_fn(|cx| carrier.poll_close(cx)).await;
}

impl<T: ThreadTrack + Track<Delivery: Lossless + InOrder>> Conversation for MessageCarrier<T> {
    type Client = Self;

    async fn answer<A: Address>(mut self, peer: &Peer<A>) {
        while let Some(Ok(Some(message))) = peer.until_draining(self.recv()).await {
            let _ = self.send(&message).await;
        }
        close(&mut self).await;
    }

    async fn ask(client: &mut Self) {
        client.send(b"a message").await.expect("sends");
        assert_eq!(&client.recv().await.expect("receives").expect("an answer")[..], b"a message");
    }

    async fn goodbye(client: &mut Self) {
        assert!(client.recv().await.expect("a goodbye").is_none());
    }
}

impl<T: ThreadTrack + Track<Delivery: Lossless + InOrder>> Conversation for StreamCarrier<T> {
    type Client = Self;

    async fn answer<A: Address>(mut self, peer: &Peer<A>) {
        loop {
            let read = match peer.until_draining(self.fill()).await {
                Some(Ok(bytes)) if !bytes.is_empty() => bytes.to_vec(),
                _ => break,
            };
            self.consume(read.len());
            let _ = self.put_all(&read).await;
        }
        close(&mut self).await;
    }

    async fn ask(client: &mut Self) {
        client.put_all(b"some bytes").await.expect("writes");
        let mut read = Vec::new();
        while read.len() < 10 {
            let bytes = client.fill().await.expect("reads");
            assert!(!bytes.is_empty(), "an end in the middle");
            read.extend_from_slice(bytes);
            let len = bytes.len();
            client.consume(len);
        }
        assert_eq!(read, b"some bytes");
    }

    async fn goodbye(client: &mut Self) {
        assert!(client.fill().await.expect("a goodbye").is_empty());
    }
}

impl<F> Conversation for RendezvousCarrier<F>
where
    F: MemoryFabric<Track: ThreadTrack + Track<Delivery: Lossless + InOrder>> + ThreadFabric,
    Self: Send,
{
    type Client = Self;

    async fn answer<A: Address>(mut self, peer: &Peer<A>) {
        while let Some(Ok(Some(message))) = peer.until_draining(self.recv()).await {
            let _ = self.send(&message[..9]).await;
        }
        close(&mut self).await;
    }

    async fn ask(client: &mut Self) {
        let mut region = client.alloc(100_000).expect("memory");
        region[..9].copy_from_slice(b"is lent, ");
        client.send_region(region, 0..100_000).await.expect("lends");
        assert_eq!(&client.recv().await.expect("receives").expect("an answer")[..], b"is lent, ");
        client.returned().await.expect("it was lent");
    }

    async fn goodbye(client: &mut Self) {
        assert!(client.recv().await.expect("a goodbye").is_none());
    }
}

impl<T: ThreadTrack + Track<Delivery: Lossless + InOrder>> Conversation for Feed<T> {
    type Client = Subscriber<T>;

    async fn answer<A: Address>(self, peer: &Peer<A>) {
        // A publisher for each: what many have in common is shown elsewhere.
        let publisher = Publisher::new(PublisherConfig::default());
        publisher.publish("topic", b"kept").expect("publishes");
        let ending = async {
            peer.draining().await;
            publisher.end();
            std::future::pending::<()>().await;
        };
        let (mut serving, mut ending) = (std::pin::pin!(publisher.serve(self)), std::pin::pin!(ending));
        let _ = poll_fn(|cx| {
            let _ = ending.as_mut().poll(cx);
            serving.as_mut().poll(cx)
        })
        .await;
    }

    async fn ask(client: &mut Subscriber<T>) {
        client.subscribe("topic").await.expect("subscribes");
        let received = client.recv().await.expect("receives").expect("an event");
        assert_eq!(received.event().map(|event| event.payload.to_vec()), Some(b"kept".to_vec()));
    }

    async fn goodbye(client: &mut Subscriber<T>) {
        assert!(client.recv().await.expect("a goodbye").is_none());
    }
}

impl<T: ThreadTrack + Track<Delivery = Datagram>> Conversation for DatagramCarrier<T> {
    type Client = Self;
    const NOTICES_DEATH: bool = false;

    async fn answer<A: Address>(mut self, peer: &Peer<A>) {
        while let Some(Ok(Some(message))) = peer.until_draining(self.recv()).await {
            let _ = self.send(&message).await;
        }
        close(&mut self).await;
    }

    async fn ask(client: &mut Self) {
        client.send(b"a datagram").await.expect("sends");
        assert_eq!(&client.recv().await.expect("receives").expect("an answer")[..], b"a datagram");
    }

    async fn goodbye(client: &mut Self) {
        assert!(client.recv().await.expect("a goodbye").is_none());
    }
}

fn connect<F: Fabric, C: Conversation<Track = F::Track>>(
    ends: &Ends<F>,
    addr: &F::Addr,
    config: &C::Config,
) -> C::Client {
    within(async {
        let track = ends.client.connect(addr).await.unwrap_or_else(|error| panic!("cannot connect: {error}"));
        C::Client::open(track, Role::Connector, config.clone()).await.expect("shakes hands")
    })
}

/// Limits, ends of all sorts, and a drain.
pub(crate) fn exercise<F, C>(ends: &Ends<F>, carrier: C::Config, client: C::Config)
where
    F: ThreadFabric,
    C: Conversation<Track = F::Track>,
    // Both hold, and are said since the compiler does not find them.
    Server<F::Listener, C>: Send,
{
    let listener = ends.server.listen(&ends.addr).expect("listens");
    let config = ServerConfig::default().with_max_peers(2).with_max_handshakes(2);
    let mut server: Server<F::Listener, C> =
        Server::new(listener, ends.server.timer(), config, carrier).expect("good settings");
    let (addr, handle) = (server.local(), server.handle());
    let serving = thread::spawn(move || {
        let handler = |Accepted { carrier, peer }: Accepted<C, F::Addr>| async move {
            C::answer(carrier, &peer).await;
        };
        within(server.serve(handler)).expect("the listener lives")
    });

    let mut one = connect::<F, C>(ends, &addr, &client);
    let mut two = connect::<F, C>(ends, &addr, &client);
    within(C::ask(&mut one));
    within(C::ask(&mut two));
    let error = within(ends.client.connect(&addr)).err().expect("there is room for two");
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert!(handle.stats().turned_away > 0);

    // One leaves with a goodbye, one without: each makes room.
    within(close(&mut one));
    until("a place is free", || handle.stats().peers == 1);
    let mut three = connect::<F, C>(ends, &addr, &client);
    within(C::ask(&mut three));
    if C::NOTICES_DEATH {
        drop(two);
        until("a place is free", || handle.stats().peers == 1);
        // One that goes in the middle of its handshake is counted, and ends nothing.
        drop(within(ends.client.connect(&addr)).unwrap_or_else(|error| panic!("cannot connect: {error}")));
        until("a handshake fails", || handle.stats().failed == 1 && handle.stats().handshakes == 0);
        two = connect::<F, C>(ends, &addr, &client);
    }
    within(C::ask(&mut two));

    handle.drain(PATIENCE);
    within(C::goodbye(&mut two));
    within(C::goodbye(&mut three));
    drop((two, three));
    let drained = serving.join().expect("no panic");
    assert!(drained.cut_off.is_empty(), "{:?}", drained.cut_off);
    let stats = handle.stats();
    assert_eq!((stats.peers, stats.handshakes, stats.memory), (0, 0, 0));
    let error = within(ends.client.connect(&addr)).err().expect("nobody listens");
    assert!(matches!(error.kind(), ErrorKind::Refused | ErrorKind::Unreachable), "{error}");
}

/// The carriers that need nothing but order and that nothing is lost.
pub(crate) fn exercise_all<F>(ends: impl Fn() -> Ends<F>)
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    exercise::<F, MessageCarrier<F::Track>>(&ends(), MessageConfig::default(), MessageConfig::default());
    exercise::<F, StreamCarrier<F::Track>>(&ends(), StreamConfig::default(), StreamConfig::default());
    exercise::<F, Feed<F::Track>>(&ends(), message_config(), message_config());
}

/// That which needs memory besides.
pub(crate) fn exercise_rendezvous<F>(ends: &Ends<F>)
where
    F: ThreadFabric + MemoryFabric<Track: Track<Delivery: Lossless + InOrder>>,
    RendezvousCarrier<F>: Send,
    Server<F::Listener, RendezvousCarrier<F>>: Send,
{
    exercise::<F, RendezvousCarrier<F>>(
        ends,
        RendezvousConfig::new(ends.server.clone()),
        RendezvousConfig::new(ends.client.clone()),
    );
}

/// That of datagrams.
pub(crate) fn exercise_datagrams<F>(ends: &Ends<F>)
where
    F: ThreadFabric<Track: Track<Delivery = Datagram>>,
{
    exercise::<F, DatagramCarrier<F::Track>>(ends, DatagramConfig::default(), DatagramConfig::default());
}
