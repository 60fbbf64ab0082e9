//! One server, and each carrier on it, on real verbs; then many clients at once, and a client process that is killed.
#![cfg(feature = "verbs")]

#[path = "support/rdma.rs"]
mod rdma;
mod server_cases;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rdma::needs_rdma;
use server_cases::{
    Conversation, Ends, PATIENCE, exercise_all, exercise_datagrams, exercise_rendezvous, until, within,
};
use trespass::carriers::{Accepted, MessageCarrier, MessageConfig, Server, ServerConfig};
use trespass::core::{Fabric, Role};
use trespass::verbs::{DatagramConfig, ReliableTrack, SharedConfig, TrackListener, VerbsConfig, VerbsFabric};

type Carrier = MessageCarrier<ReliableTrack>;

/// A client that is told "busy" comes again for so long before it says so.
const HASTE: Duration = Duration::from_secs(2);

fn ends() -> Ends<VerbsFabric> {
    let (client, server) = rdma::addresses();
    Ends {
        server: rdma::fabric(server, VerbsConfig::default()),
        client: rdma::fabric(client, VerbsConfig::default().with_timeouts(HASTE, HASTE)),
        addr: SocketAddr::new(server, 0),
    }
}

#[test]
fn any_carrier_on_verbs() {
    needs_rdma!();
    exercise_all(ends);
}

#[test]
fn long_messages_on_verbs() {
    needs_rdma!();
    exercise_rendezvous(&ends());
}

#[test]
fn any_carrier_on_shared_queues() {
    needs_rdma!();
    exercise_all(|| {
        let Ends { server, client, addr } = ends();
        let shared = |fabric: VerbsFabric| fabric.shared(SharedConfig::default()).expect("shared queues");
        Ends { server: shared(server), client: shared(client), addr }
    });
}

#[test]
fn datagrams_on_verbs() {
    needs_rdma!();
    let Ends { server, client, addr } = ends();
    let datagrams = |fabric: VerbsFabric| fabric.datagrams(DatagramConfig::default()).expect("datagrams");
    exercise_datagrams(&Ends { server: datagrams(server), client: datagrams(client), addr });
}

fn server(fabric: &VerbsFabric, addr: &SocketAddr, config: ServerConfig) -> Server<TrackListener, Carrier> {
    let listener = fabric.listen(addr).expect("listens");
    Server::new(listener, fabric.timer(), config, MessageConfig::default()).expect("good settings")
}

async fn connect(fabric: &VerbsFabric, addr: &SocketAddr) -> Carrier {
    let track = fabric.connect(addr).await.unwrap_or_else(|error| panic!("cannot connect: {error}"));
    MessageCarrier::open(track, Role::Connector, MessageConfig::default()).await.expect("shakes hands")
}

/// Far more than there may be handshakes at once: each gets in, in its turn, and all are served in one thread.
#[test]
fn many_clients_at_once() {
    needs_rdma!();
    const CLIENTS: usize = 32;
    let (client, at) = rdma::addresses();
    let ends = Ends {
        server: rdma::fabric(at, VerbsConfig::default()),
        client: rdma::fabric(client, VerbsConfig::default().with_timeouts(PATIENCE, HASTE)),
        addr: SocketAddr::new(at, 0),
    };
    let config = ServerConfig::default().with_max_peers(CLIENTS).with_max_handshakes(4);
    let mut server = server(&ends.server, &ends.addr, config);
    let (addr, handle) = (server.local(), server.handle());
    let serving = thread::spawn(move || {
        let handler = |Accepted { carrier, peer }: Accepted<Carrier, SocketAddr>| async move {
            carrier.answer(&peer).await;
        };
        within(server.serve(handler)).expect("the listener lives")
    });
    let asked = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                within(async {
                    let mut carrier = connect(&ends.client, &addr).await;
                    for _ in 0..10 {
                        Carrier::ask(&mut carrier).await;
                    }
                    asked.fetch_add(1, Ordering::SeqCst);
                    Carrier::goodbye(&mut carrier).await;
                });
            });
        }
        until("all have had their answers", || asked.load(Ordering::SeqCst) == CLIENTS);
        assert_eq!(handle.stats().peers, CLIENTS);
        handle.drain(PATIENCE);
    });
    assert!(serving.join().expect("no panic").cut_off.is_empty());
    let stats = handle.stats();
    assert_eq!((stats.accepted, stats.failed, stats.turned_away), (CLIENTS as u64, 0, 0));
}

const CONNECT: &str = "TRESPASS_TEST_CONNECT";
const CONNECTED: &str = "connected";

/// The other process of the test below: nothing without its parent.
#[test]
fn a_client_process() {
    let Ok(addr) = std::env::var(CONNECT) else { return };
    let addr: SocketAddr = addr.parse().expect("an address");
    let fabric = rdma::fabric(rdma::addresses().0, VerbsConfig::default());
    within(async {
        let mut carrier = connect(&fabric, &addr).await;
        Carrier::ask(&mut carrier).await;
        println!("{CONNECTED}");
        std::io::stdout().flush().expect("a pipe");
        // Until it is killed.
        Carrier::goodbye(&mut carrier).await;
    });
}

/// Kills it, where it has not ended.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Its place is free again, and the others do not notice.
#[test]
fn a_client_process_that_is_killed() {
    needs_rdma!();
    let ends = ends();
    let mut server = server(&ends.server, &ends.addr, ServerConfig::default().with_max_peers(2));
    let (addr, handle) = (server.local(), server.handle());
    let serving = thread::spawn(move || {
        let handler = |Accepted { carrier, peer }: Accepted<Carrier, SocketAddr>| async move {
            carrier.answer(&peer).await;
        };
        within(server.serve(handler)).expect("the listener lives")
    });
    let mut bystander = within(connect(&ends.client, &addr));
    for _ in 0..2 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "a_client_process", "--nocapture"])
            .env(CONNECT, addr.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let out = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut process = Process(child);
        assert!(out.lines().any(|line| line.expect("text").contains(CONNECTED)), "it connects");
        assert_eq!(handle.stats().peers, 2);
        process.0.kill().expect("SIGKILL");
        process.0.wait().expect("it is dead");
        until("its place is free", || handle.stats().peers == 1);
        within(Carrier::ask(&mut bystander));
    }
    handle.drain(PATIENCE);
    within(Carrier::goodbye(&mut bystander));
    drop(bystander);
    assert!(serving.join().expect("no panic").cut_off.is_empty());
    assert_eq!(handle.stats().accepted, 3);
}
