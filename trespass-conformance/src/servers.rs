//! The server: any carrier on the listeners of a fabric; here the message carrier.

use std::future::{Future, pending};
use std::time::Duration;

use trespass_carriers::{Accepted, MessageCarrier, MessageConfig, Server, ServerConfig, ServerHandle, ServerStats};
use trespass_core::{
    Address, Carrier, ErrorKind, Fabric, InOrder, Lossless, RecvSideExt, Role, SendSide, SendSideExt, Timer, Track,
    TransportError,
};

use crate::harness::ReliableHarness;
use crate::traffic::{expect_kind, listen};
use crate::wait::{Waits, both};

type CarrierOf<H> = MessageCarrier<<<H as crate::Harness>::Fabric as Fabric>::Track>;
type ServerOf<H> = Server<<<H as crate::Harness>::Fabric as Fabric>::Listener, CarrierOf<H>>;

/// As long as anything here may take, for what is not to be ended by a deadline.
fn without_end<H: ReliableHarness>(h: &H) -> MessageConfig {
    MessageConfig::default().with_open_timeout(h.patience() * 10)
}

fn server<H: ReliableHarness>(h: &H, fabric: &H::Fabric, config: ServerConfig, carrier: MessageConfig) -> ServerOf<H> {
    let server = Server::new(listen(h, fabric), fabric.timer(), config, carrier);
    server.unwrap_or_else(|fault| panic!("good settings are refused: {fault}"))
}

/// Echoes until the peer leaves or the server drains, then says goodbye; but for `stuck`, after which it does nothing.
async fn echo<T, A>(Accepted { mut carrier, peer }: Accepted<MessageCarrier<T>, A>)
where
    T: Track<Delivery: Lossless + InOrder>,
    A: Address,
{
    while let Some(Ok(Some(message))) = peer.until_draining(carrier.recv()).await {
        if carrier.send(&message).await.is_err() {
            return;
        }
        if &message[..] == b"stuck" {
            pending::<()>().await;
        }
    }
    // The peer may have been first.
    let _ = carrier.close().await;
}

/// The clients of a server.
struct Clients<F: Fabric> {
    fabric: F,
    addr: F::Addr,
    handle: ServerHandle<F::Addr>,
}

impl<F: Fabric<Track: Track<Delivery: Lossless + InOrder>>> Clients<F> {
    async fn track(&self) -> F::Track {
        self.fabric.connect(&self.addr).await.unwrap_or_else(|error| panic!("cannot connect: {error}"))
    }

    async fn connect(&self) -> MessageCarrier<F::Track> {
        let opening = MessageCarrier::open(self.track().await, Role::Connector, MessageConfig::default());
        opening.await.unwrap_or_else(|error| panic!("a server refuses the handshake: {error}"))
    }

    async fn refused(&self, what: &str, kinds: &[ErrorKind]) {
        let Err(error) = self.fabric.connect(&self.addr).await else { panic!("{what}: it is let in") };
        expect_kind(what, &error, kinds);
    }

    /// Waits, on the clock of the fabric, until `condition` holds of the server.
    async fn until(&self, condition: impl Fn(&ServerStats) -> bool) {
        while !condition(&self.handle.stats()) {
            self.fabric.timer().sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn exchange<T: Track<Delivery: Lossless + InOrder>>(carrier: &mut MessageCarrier<T>, word: &[u8]) {
    carrier.send(word).await.unwrap_or_else(|error| panic!("cannot send: {error}"));
    let answer = carrier.recv().await.unwrap_or_else(|error| panic!("no answer: {error}"));
    assert_eq!(&answer.expect("an answer, and no goodbye")[..], word);
}

async fn goodbye<T: Track<Delivery: Lossless + InOrder>>(carrier: &mut MessageCarrier<T>) {
    match carrier.recv().await {
        Ok(None) => {}
        Ok(Some(message)) => panic!("{} bytes in the place of a goodbye", message.len()),
        Err(error) => panic!("no goodbye: {error}"),
    }
    carrier.close().await.unwrap_or_else(|error| panic!("a close after a goodbye: {error}"));
}

/// Serves while `run` does what clients do, and drains at its end. How many were cut off.
fn served<H, R>(
    h: &H,
    what: &str,
    mut server: ServerOf<H>,
    client: &H::Fabric,
    run: impl FnOnce(Clients<H::Fabric>) -> R,
) where
    H: ReliableHarness,
    R: Future<Output = usize>,
{
    let clients = Clients { fabric: client.clone(), addr: server.local(), handle: server.handle() };
    let (drained, stuck) = h.wait(what, both(server.serve(echo), run(clients)));
    let drained = drained.unwrap_or_else(|error| panic!("the listener fails: {error}"));
    assert_eq!(drained.cut_off.len(), stuck, "who was given up at the end");
    assert_eq!((server.stats().peers, server.stats().memory), (0, 0), "places that were not given back");
}

/// A peer too many is told, and one that leaves makes room.
pub fn a_server_keeps_its_limits<H: ReliableHarness>(h: &H) {
    let fabrics = h.hasty_fabrics();
    let each = <CarrierOf<H> as Carrier>::most_memory(&without_end(h));
    // The memory of one, and nearly that of a second: whatever the tracks take.
    for config in [ServerConfig::default().with_max_peers(1), ServerConfig::default().with_max_memory(2 * each)] {
        let server = server(h, &fabrics.server, config, without_end(h));
        served(h, "a server with room for one", server, &fabrics.client, |clients| async move {
            for _ in 0..2 {
                let mut carrier = clients.connect().await;
                clients.refused("a peer too many", &[ErrorKind::Busy, ErrorKind::Refused]).await;
                exchange(&mut carrier, b"there is room for one").await;
                carrier.close().await.unwrap_or_else(|error| panic!("cannot close: {error}"));
                clients.until(|stats| stats.peers == 0).await;
            }
            clients.handle.drain(Duration::from_secs(1));
            0
        });
    }
}

/// A peer that connects and says nothing keeps nobody waiting, and ends at its deadline.
pub fn handshakes_go_on_side_by_side<H: ReliableHarness>(h: &H) {
    let fabrics = h.fabrics();
    let patient = server(h, &fabrics.server, ServerConfig::default(), without_end(h));
    served(h, "peers beside a silent one", patient, &fabrics.client, |clients| async move {
        let silent = clients.track().await;
        clients.until(|stats| stats.handshakes == 1).await;
        for _ in 0..3 {
            let mut carrier = clients.connect().await;
            exchange(&mut carrier, b"beside").await;
            carrier.close().await.unwrap_or_else(|error| panic!("cannot close: {error}"));
        }
        assert_eq!(clients.handle.stats().handshakes, 1, "the silent one is still there");
        drop(silent);
        clients.until(|stats| stats.handshakes == 0).await;
        clients.handle.drain(Duration::from_secs(1));
        0
    });

    let deadline = MessageConfig::default().with_open_timeout(Duration::from_millis(300));
    // With room for no more than the silent one, the next waits for its end, in the queue.
    let one = ServerConfig::default().with_max_handshakes(1);
    let hasty = server(h, &fabrics.server, one, deadline);
    served(h, "a silent peer's end", hasty, &fabrics.client, |clients| async move {
        let mut silent = clients.track().await;
        while silent.recv().await.is_ok() {}
        clients.until(|stats| stats.failed_with(ErrorKind::TimedOut) == 1 && stats.handshakes == 0).await;
        clients.handle.drain(Duration::from_secs(1));
        0
    });
}

/// Whatever becomes of a handshake, it is counted as what it is, and ends nothing else.
pub fn handshakes_fail_alone<H: ReliableHarness>(h: &H) {
    let fabrics = h.fabrics();
    let server = server(h, &fabrics.server, ServerConfig::default(), without_end(h));
    served(h, "peers that misbehave", server, &fabrics.client, |clients| async move {
        let mut bystander = clients.connect().await;
        let mut garbage = clients.track().await;
        let mut buf = garbage.reserve(20).await.unwrap_or_else(|error| panic!("no slot: {error}"));
        buf.fill(0xff);
        garbage.send(buf).unwrap_or_else(|unsent| panic!("cannot send: {}", unsent.error));
        while garbage.recv().await.is_ok() {}
        clients.until(|stats| stats.failed_with(ErrorKind::Protocol) == 1).await;
        exchange(&mut bystander, b"after garbage").await;
        drop(clients.track().await);
        clients.until(|stats| stats.failed == 2 && stats.handshakes == 0).await;
        exchange(&mut bystander, b"after a death").await;
        exchange(&mut clients.connect().await, b"after all").await;
        clients.handle.drain(h.patience());
        goodbye(&mut bystander).await;
        0
    });
}

/// Nobody comes in any more, those who can say goodbye, and who is stuck is given up at the deadline.
pub fn a_drain_ends_with_a_goodbye_or_its_deadline<H: ReliableHarness>(h: &H) {
    for stuck in [0, 1] {
        let fabrics = h.hasty_fabrics();
        let server = server(h, &fabrics.server, ServerConfig::default(), without_end(h));
        served(h, "a drain", server, &fabrics.client, |clients| async move {
            let (mut idle, mut other) = (clients.connect().await, clients.connect().await);
            exchange(&mut idle, b"idle").await;
            exchange(&mut other, if stuck == 0 { b"other" } else { b"stuck" }).await;
            // Without a stuck one it does not come to the limit, which is longer than anything is waited for.
            clients.handle.drain(if stuck == 0 { h.patience() * 10 } else { Duration::from_millis(500) });
            goodbye(&mut idle).await;
            let nobody = [ErrorKind::Refused, ErrorKind::Unreachable];
            clients.refused("a connect to a server that drains", &nobody).await;
            match stuck {
                0 => goodbye(&mut other).await,
                _ => {
                    let Err(error) = other.recv().await else { panic!("one that is stuck is not cut off") };
                    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
                }
            }
            stuck
        });
    }
}
