//! What the tests of the server share: a simulated net with a server on it, and clients.
#![allow(dead_code)] // Each test binary uses a part of it.

use std::future::Future;
use std::time::Duration;

use trespass_carriers::{
    Accepted, CarrierError, HandshakeError, MessageCarrier, MessageConfig, Peer, Server, ServerConfig, ServerHandle,
};
use trespass_core::{ErrorKind, Fabric, Role, Timer, TransportError};
use trespass_mock::{
    MockAddr, MockConfig, MockError, MockFabric, MockListener, MockPlan, MockSim, MockSimReport, MockTimer, MockTrack,
};

pub(crate) type Carrier = MessageCarrier<MockTrack>;
pub(crate) type MessageServer = Server<MockListener, Carrier>;
pub(crate) type Failure = HandshakeError<MockError, CarrierError<MockError>>;
pub(crate) type Handle = ServerHandle<MockAddr>;

pub(crate) const MS: Duration = Duration::from_millis(1);

pub(crate) fn addr() -> MockAddr {
    "server".parse().unwrap()
}

/// Small tracks, whose connects have more patience than a handshake in band takes.
pub(crate) fn tracks() -> MockConfig {
    MockConfig::default()
        .with_max_message(256)
        .with_send_slots(8)
        .with_recv_slots(8)
        .with_handshake_timeout(Duration::from_secs(20))
}

/// A simulation with two fabrics, that of the server and that of its clients.
pub(crate) struct World {
    pub(crate) sim: MockSim,
    pub(crate) server: MockFabric,
    pub(crate) clients: MockFabric,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(0, MockPlan::default())
    }

    pub(crate) fn of(seed: u64, plan: MockPlan) -> Self {
        let sim = MockSim::new(seed, plan);
        let [server, clients] = [(); 2].map(|()| sim.net().fabric(tracks()).unwrap());
        Self { sim, server, clients }
    }

    pub(crate) fn listen(&self, config: ServerConfig) -> MessageServer {
        self.listen_with(config, MessageConfig::default())
    }

    pub(crate) fn listen_with(&self, config: ServerConfig, carrier: MessageConfig) -> MessageServer {
        Server::new(self.server.listen(&addr()).unwrap(), self.server.timer(), config, carrier).unwrap()
    }

    /// Has `server` echo to whoever comes, in place, until it is drained.
    pub(crate) fn echo(&self, mut server: MessageServer) -> Handle {
        let handle = server.handle();
        self.sim.spawn("server", async move {
            let drained = server.serve(echo).await.unwrap();
            assert!(drained.cut_off.is_empty(), "{:?}", drained.cut_off);
        });
        handle
    }

    /// A task that clients are made in.
    pub(crate) fn client<F>(&self, name: &str, run: impl FnOnce(Client) -> F)
    where
        F: Future<Output = ()> + 'static,
    {
        self.sim.spawn(name, run(Client { fabric: self.clients.clone(), timer: self.sim.timer() }));
    }

    pub(crate) fn run(mut self) -> MockSimReport {
        self.sim.run().unwrap_or_else(|failure| panic!("{failure}"))
    }
}

/// What a client has.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) fabric: MockFabric,
    pub(crate) timer: MockTimer,
}

impl Client {
    pub(crate) async fn connect(&self) -> Result<Carrier, CarrierError<MockError>> {
        let track = self.track().await.map_err(CarrierError::Track)?;
        MessageCarrier::open(track, Role::Connector, MessageConfig::default()).await
    }

    /// Why it cannot connect.
    pub(crate) async fn refused(&self) -> ErrorKind {
        self.connect().await.expect_err("nobody is to be let in").kind()
    }

    pub(crate) async fn track(&self) -> Result<MockTrack, MockError> {
        self.fabric.connect(&addr()).await
    }

    /// Waits, on the clock of the simulation, until `condition` holds.
    pub(crate) async fn until(&self, condition: impl Fn() -> bool) {
        while !condition() {
            self.timer.sleep(MS).await;
        }
    }
}

/// Echoes until the peer leaves, or the server drains.
pub(crate) async fn echo(accepted: Accepted<Carrier, MockAddr>) {
    let Accepted { mut carrier, peer } = accepted;
    // How it ends is the client's to say.
    let _ = echo_on(&mut carrier, &peer).await;
}

pub(crate) async fn echo_on(carrier: &mut Carrier, peer: &Peer<MockAddr>) -> Result<(), CarrierError<MockError>> {
    while let Some(received) = peer.until_draining(carrier.recv()).await {
        let Some(message) = received? else { break };
        carrier.send(&message).await?;
    }
    carrier.close().await
}

/// Sends a word, and gets it back.
pub(crate) async fn exchange(carrier: &mut Carrier, word: &[u8]) {
    carrier.send(word).await.unwrap();
    assert_eq!(&carrier.recv().await.unwrap().expect("an answer")[..], word);
}

/// The goodbye of the server, and nothing before it.
pub(crate) async fn goodbye(carrier: &mut Carrier) {
    assert!(carrier.recv().await.unwrap().is_none());
    carrier.close().await.unwrap();
}
