//! Calls on real verbs: between two processes, and in a storm.
#![cfg(feature = "verbs")]

#[path = "support/storm.rs"]
mod storm;

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};

use trespass::core::{Fabric, Listener};
use trespass::verbs::{VerbsConfig, VerbsFabric};

/// Two addresses of RDMA devices that reach each other; `None`, loudly, where there are none, and a failure where there must be.
fn addresses() -> Option<[IpAddr; 2]> {
    let Ok(addrs) = std::env::var("TRESPASS_RDMA_ADDRS") else {
        let required = std::env::var_os("TRESPASS_REQUIRE_RDMA").is_some_and(|value| value == "1");
        assert!(!required, "no RDMA device here: run it by scripts/with-rdma");
        eprintln!("SKIPPED: no RDMA device here: run it by scripts/with-rdma");
        return None;
    };
    let addrs: Vec<IpAddr> = addrs.split_whitespace().map(|addr| addr.parse().expect("an IP address")).collect();
    Some([addrs[0], *addrs.last().expect("at least one address")])
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trespass-example-rpc"));
    command.args(["--fabric", "verbs"]);
    command
}

/// Killed when the test fails before it has ended.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, which is what the test is about.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn two_processes_on_verbs() {
    let Some([client, server]) = addresses() else { return };
    let listen = SocketAddr::new(server, 0).to_string();
    let child = program().args(["--listen", &listen]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut process = Process(child.expect("a process"));
    let mut lines =
        BufReader::new(process.0.stdout.take().expect("it is piped")).lines().map(|line| line.expect("text"));
    let addr = lines.find_map(|line| Some(line.strip_prefix("listening on ")?.to_owned())).expect("it listens");

    for turn in 0..2 {
        let local = client.to_string();
        let run = program().args(["--connect", &addr, "--local", &local, "--calls", "2000"]).output().expect("it runs");
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success(), "client {turn}: {said}{}", String::from_utf8_lossy(&run.stderr));
        assert!(said.contains("every method says what it should") && said.contains("2000 calls"), "{said}");
        println!("{}", said.trim());
    }

    // The end of its input is what it drains at.
    drop(process.0.stdin.take());
    assert_eq!(lines.last().as_deref(), Some("served 2 clients"));
    assert!(process.0.wait().expect("it ends").success());
}

/// As in `tests/storm.rs`, with fewer calls.
#[test]
fn calls_end_once_each_on_verbs() {
    let Some(addrs) = addresses() else { return };
    let [client, server] =
        addrs.map(|ip| VerbsFabric::open(VerbsConfig::default().with_local(ip)).expect("the device"));
    // A port that is free: the servers listen there one after another.
    let addr = server.listen(&SocketAddr::new(addrs[1], 0)).expect("a listener").local();
    let sorts = storm::on_threads(server, client, addr, 5, 600);
    println!("replies, statuses, deadlines, disconnected, rejected, cancelled: {sorts:?}");
}
