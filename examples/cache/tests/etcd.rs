//! Membership from etcd: nodes come, one dies and is taken out, and returns; and where etcd cannot be reached nodes stand still. Runs
//! where there is an `etcd` in the path, or at `TRESPASS_ETCD`.
#![cfg(all(feature = "etcd", feature = "mock"))]

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::future::select;
use trespass::core::wait;
use trespass::mock::{MockAddr, MockConfig, MockFabric, MockNet};
use trespass_example_cache::etcd::EtcdSource;
use trespass_example_cache::membership::NodeId;
use trespass_example_cache::source::Source;
use trespass_example_cache::wire::{Refusal, Unready};
use trespass_example_cache::{CacheError, Client, ClientConfig, Node, NodeConfig, Trouble};

/// How long anything is waited for that must come.
const PATIENCE: Duration = Duration::from_secs(60);
const LEASE: Duration = Duration::from_millis(1000);

/// Where etcd is. `None`, loudly, where it is not.
fn program() -> Option<PathBuf> {
    let given = std::env::var_os("TRESPASS_ETCD").map(PathBuf::from);
    let program = given.unwrap_or_else(|| PathBuf::from("etcd"));
    match Command::new(&program).arg("--version").output() {
        Ok(said) if said.status.success() => Some(program),
        _ => {
            eprintln!(
                "SKIPPED: no etcd here: install Debian's package etcd-server, or name the program in TRESPASS_ETCD"
            );
            None
        }
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("an address")
}

/// An etcd of one, killed when this is dropped.
struct Etcd {
    child: Child,
}

impl Etcd {
    fn start(program: &Path, directory: &Path, client: SocketAddr, peer: SocketAddr) -> Self {
        let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
        let child = Command::new(program)
            .args(["--name", "one", "--log-level", "error", "--data-dir"])
            .arg(directory)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("one={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd");
        Self { child }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A node in a thread, until its fabric is killed.
fn start(net: &MockNet, etcd: &EtcdSource, id: u16, incarnation: u64) -> (MockFabric, JoinHandle<()>) {
    let fabric = net.fabric(MockConfig::default()).expect("a fabric");
    let (own, etcd) = (fabric.clone(), etcd.clone());
    let thread = std::thread::spawn(move || {
        let addr = |what: &str| format!("{what}-{id}").parse::<MockAddr>().expect("an address");
        let mut config = NodeConfig::new(NodeId(id), incarnation);
        config.lease = LEASE;
        let node = Node::bind(own, etcd.clone(), &addr("data"), &addr("control"), config).expect("a node");
        let (handle, member) = (node.handle(), node.member());
        wait(async {
            select(pin!(node.run()), pin!(etcd.attend(&handle, member, 2, Duration::from_secs(2)))).await;
        });
    });
    (fabric, thread)
}

fn until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The names of the members, where all of them say that all have their keys.
fn settled(client: &Client<MockFabric, EtcdSource>) -> Vec<u16> {
    let Ok(reports) = wait(client.reports()) else { return Vec::new() };
    let epoch = reports.first().and_then(|report| report.epoch);
    match reports.iter().all(|report| report.settled && report.epoch == epoch) {
        true => reports.iter().map(|report| report.node.0).collect(),
        false => Vec::new(),
    }
}

#[test]
fn nodes_come_die_and_return_by_what_etcd_says() {
    let Some(program) = program() else { return };
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("etcd");
    // Another run's.
    let _ = std::fs::remove_dir_all(&directory);
    let (client_addr, peer_addr) = (free(), free());
    let server = Etcd::start(&program, &directory, client_addr, peer_addr);
    let etcd =
        EtcdSource::new(vec![format!("http://{client_addr}")], "/cache", Duration::from_secs(2)).expect("a thread");

    let net = MockNet::new();
    let mut nodes: Vec<_> = (1..=3).map(|id| start(&net, &etcd, id, 1)).collect();
    let mut config = ClientConfig::default();
    config.deadline = PATIENCE;
    let client = Client::new(net.fabric(MockConfig::default()).expect("a fabric"), etcd.clone(), config);
    until("three nodes come", || settled(&client) == [1, 2, 3]);
    let key = |number: u32| format!("key {number}").into_bytes();
    for number in 0..100 {
        wait(client.put(&key(number), number.to_string(), Duration::from_secs(3600))).expect("it is put");
    }
    let all_there = || {
        for number in 0..100 {
            let found = wait(client.get(&key(number))).expect("it is read").map(|(_, value)| value);
            assert_eq!(found, Some(number.to_string().into()), "key {number}");
        }
    };

    let (dead, thread) = nodes.remove(1);
    dead.kill();
    thread.join().expect("it has ended");
    until("the dead is taken out", || settled(&client) == [1, 3]);
    all_there();
    nodes.push(start(&net, &etcd, 2, 2));
    until("it returns", || settled(&client) == [1, 2, 3]);
    all_there();

    // Nobody knows whether others have moved on: nobody serves.
    drop(server);
    until("nodes stand still", || {
        let outcome = wait(client.get_once(&key(7)));
        let Err(CacheError::Unavailable { last: Trouble::Refused(_, refusal), .. }) = outcome else { return false };
        refusal == Refusal::NotReady(Unready::Lease)
    });
    let _server = Etcd::start(&program, &directory, client_addr, peer_addr);
    until("they go on", || wait(Source::<MockAddr>::read(&etcd)).is_ok());
    all_there();
    for (fabric, thread) in nodes {
        fabric.kill();
        thread.join().expect("it has ended");
    }
}
