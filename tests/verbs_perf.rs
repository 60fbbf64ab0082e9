//! `trespass perf` and `trespass ping` on real verbs, as two processes. What is measured is not looked at.
#![cfg(all(feature = "verbs", feature = "cli"))]

use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use trespass::carriers::{MessageCarrier, MessageConfig};
use trespass::core::{Fabric, Role, wait};
use trespass::verbs::VerbsConfig;

#[path = "support/rdma.rs"]
mod rdma;
use rdma::needs_rdma;

const PROGRAM: &str = env!("CARGO_BIN_EXE_trespass");

/// There is one network, and slow machines: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A server, killed with SIGKILL when this is dropped.
struct Server {
    child: Child,
    addr: SocketAddr,
    out: Lines<BufReader<ChildStdout>>,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        let listen = SocketAddr::new(rdma::addresses().1, 0).to_string();
        let mut child = Command::new(PROGRAM)
            .args(args)
            .args(["--listen", &listen, "--timeout", "60"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program");
        let mut out = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let line = out.next().expect("a line").expect("text");
        let addr = line.strip_prefix("listening on ").expect("it listens").parse().expect("an address");
        Self { child, addr, out }
    }

    fn signal(&self, name: &str) {
        rdma::run(Command::new("kill").args([name, &self.child.id().to_string()]));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, of which the test speaks elsewhere.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client(server: &Server, args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    let local = rdma::addresses().0.to_string();
    command.args(args).args(["--connect", &server.addr.to_string(), "--local", &local, "--timeout", "60"]);
    command
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).expect("text")
}

fn json(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn one_server_answers_tests_of_every_kind() {
    needs_rdma!();
    let _alone = alone();
    let server = Server::start(&["perf"]);
    let layers = ["track", "shared", "datagrams", "message", "rendezvous", "stream", "datagram-carrier"];
    for layer in layers.into_iter().chain(["read", "write", "add", "swap"]) {
        for (test, how) in [("lat", "-e"), ("bw", "-e"), ("lat", "--json"), ("bw", "--json")] {
            let args = ["perf", test, "--layer", layer, "-n", "40", "-w", "4", "-t", "32", how];
            let args: Vec<_> = args.into_iter().chain((how == "-e").then_some("--json")).collect();
            let whole = json(&client(&server, &args).output().expect("the program"));
            let test = &whole["tests"][0];
            assert_eq!((&whole["fabric"], &test["layer"]), (&"verbs".into(), &layer.into()));
            assert!(whole["device"].is_string(), "{whole}");
            assert_eq!(test["sent"], 44, "{test}");
            let lost = test["lost"].as_u64().expect("a number");
            match layer.starts_with("datagram") {
                true => assert!(lost < 44, "{test}"),
                false => assert_eq!((lost, &test["received"], &test["iterations"]), (0, &44.into(), &40.into())),
            }
        }
    }
    // Messages as long as the notes between two ends of a shared track, and more of them than it has receives.
    for test in ["lat", "bw"] {
        let args = ["perf", test, "--layer", "shared", "-s", "8", "-n", "300", "-t", "16", "-l", "7", "--json"];
        let whole = json(&client(&server, &args).output().expect("the program"));
        assert_eq!((&whole["tests"][0]["received"], &whole["tests"][0]["iterations"]), (&400.into(), &300.into()));
    }
    for layer in ["track", "message", "rendezvous", "stream"] {
        let args = ["perf", "bw", "-b", "--layer", layer, "-n", "40", "-w", "4", "-e", "-s", "20000", "--json"];
        let whole = json(&client(&server, &args).output().expect("the program"));
        assert_eq!((&whole["tests"][0]["received"], &whole["tests"][0]["iterations"]), (&44.into(), &80.into()));
    }
}

#[test]
fn the_table_and_a_sweep() {
    needs_rdma!();
    let _alone = alone();
    let server = Server::start(&["perf"]);
    let args = ["perf", "layers", "-e", "-n", "20", "-w", "2", "--turns", "1", "--json"];
    let whole = json(&client(&server, &args).output().expect("the program"));
    let layers = whole["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), 11);
    for layer in layers {
        assert!(layer["medians"]["t_typical_us"].as_f64().is_some_and(|time| time > 0.0), "{layer}");
    }
    let args = ["perf", "lat", "-e", "--layer", "stream", "-a", "-s", "128K", "-n", "5", "-w", "1", "--json"];
    let whole = json(&client(&server, &args).output().expect("the program"));
    assert_eq!(whole["tests"].as_array().map(Vec::len), Some(18));
}

#[test]
fn ping_is_answered_by_either_server() {
    needs_rdma!();
    let _alone = alone();
    for program in ["ping", "perf"] {
        let mut server = Server::start(&[program, "--once"]);
        let local = rdma::addresses().0.to_string();
        let addr = server.addr.to_string();
        let args = ["ping", &addr, "-c", "3", "-i", "0.05", "-W", "60", "--local", &local, "--carrier", "message"];
        let output = Command::new(PROGRAM).args(args).output().expect("the program");
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
        assert!(said.contains(&format!("64 bytes from {addr}: seq=2 time=")) && said.contains("3 answered"), "{said}");
        assert!(server.child.wait().expect("it ends after one client").success());
    }
    // Nobody is there any more.
    let there = SocketAddr::new(rdma::addresses().1, 7).to_string();
    let output =
        Command::new(PROGRAM).args(["ping", &there, "-c", "1", "--timeout", "20"]).output().expect("the program");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(text(&output.stderr).starts_with("trespass ping: connecting: "), "{}", text(&output.stderr));
}

/// Waits until the server is in the middle of a test that does not end: as many lines as it says before.
fn endless(server: &Server, how: &[&str]) -> Child {
    let args = [&["perf", "-D", "3600", "-a", "-s", "1", "-w", "1"], how].concat();
    let mut child = client(server, &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program");
    // It says what it measures once it is connected.
    let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    out.read_line(&mut line).expect("text");
    assert!(line.contains("latency") || line.contains("bandwidth"), "{line:?}");
    child
}

#[test]
fn a_peer_that_is_killed_ends_a_test_with_an_error() {
    needs_rdma!();
    let _alone = alone();
    for how in [
        &["lat"][..],
        &["lat", "-e", "--layer", "message"],
        &["bw", "-e", "--layer", "stream"],
        &["lat", "--layer", "read"],
    ] {
        let server = Server::start(&["perf"]);
        let child = endless(&server, how);
        server.signal("-KILL");
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(1), "{how:?}");
        assert!(text(&output.stderr).starts_with("trespass perf: "), "{how:?}: {}", text(&output.stderr));
    }
}

#[test]
fn a_server_outlives_killed_clients_and_rude_ones_and_ends_in_good_order() {
    needs_rdma!();
    let _alone = alone();
    let mut server = Server::start(&["perf"]);
    for how in [&["lat"][..], &["bw", "-e", "--layer", "message"], &["lat", "-e", "--layer", "write"]] {
        let mut child = endless(&server, how);
        child.kill().expect("it is killed");
        child.wait().expect("it is dead");
    }
    let fabric = rdma::fabric(rdma::addresses().0, VerbsConfig::default());
    let answer = wait(async {
        let track = fabric.connect(&server.addr).await.expect("a track");
        let config = MessageConfig::default().with_max_message(1024);
        let mut carrier = MessageCarrier::open(track, Role::Connector, config).await.expect("a carrier");
        carrier.send(b"TrPf\x09\x01\0\0 of the year 2040").await.expect("said");
        carrier.recv().await.expect("an answer").expect("a refusal").to_vec()
    });
    assert!(text(&answer[9..]).contains("it speaks version 9"), "{}", text(&answer[9..]));
    let whole = json(&client(&server, &["perf", "-n", "10", "-w", "0", "-e", "--json"]).output().expect("the program"));
    assert_eq!(whole["tests"][0]["received"], 10);
    server.signal("-INT");
    assert_eq!(server.child.wait().expect("it ends").code(), Some(0));
    let said: Vec<_> = server.out.by_ref().map(|line| line.expect("text")).collect();
    assert!(said.iter().any(|line| line.contains("it speaks version 9")), "{said:?}");
}
