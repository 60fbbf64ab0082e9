//! The key-value store of `examples/kv` on the TCP fabric of `examples/custom_track`: the same generic exercise as on the
//! mock, then server and clients as two processes, with no RDMA.

#[path = "../examples/kv/app.rs"]
mod app;
#[path = "../examples/kv/dataset.rs"]
mod dataset;
#[path = "../examples/kv/means.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod means;
#[path = "../examples/kv/options.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod options;
#[path = "../examples/kv/progress.rs"]
mod progress;
#[path = "../examples/kv/record.rs"]
mod record;
#[path = "../examples/kv/report.rs"]
mod report;
mod store_cases;
#[path = "../examples/kv/tally.rs"]
mod tally;
#[path = "../examples/custom_track/tcp/mod.rs"]
#[allow(dead_code, reason = "the conformance kit uses the rest")]
mod tcp;
#[path = "../examples/kv/worker.rs"]
mod worker;
#[path = "../examples/kv/workload.rs"]
mod workload;
#[path = "../examples/kv/ycsb.rs"]
mod ycsb;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use clap::Parser;
use futures_executor::block_on;
use trespass::core::{ErrorKind, Fabric, RecvSideExt, TransportError};

use app::Place;
use options::Options;
use store_cases::{Ends, a_server_that_dies, exercise, store};
use tcp::{TcpConfig, TcpFabric};

fn fabric() -> TcpFabric {
    TcpFabric::open(TcpConfig::default()).expect("the defaults will do")
}

fn anywhere() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

#[test]
fn the_store_on_tcp() {
    exercise(|| Ends { server: fabric(), client: fabric(), addr: free_addr() });
}

/// An address at which a server may listen, die and be followed by another.
fn free_addr() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("an address")
}

/// A server in a process of its own, killed with SIGKILL when this is dropped.
struct Process {
    child: Child,
    addr: SocketAddr,
}

impl Process {
    /// This program again, as [`a_server_process`].
    fn serve(addr: SocketAddr) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "a_server_process", "--nocapture"])
            .env(LISTEN, addr.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let out = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut lines = out.lines().map(|line| line.expect("text"));
        let addr = lines.find_map(|line| Some(line.split_once("listening on ")?.1.parse().expect("an address")));
        Self { child, addr: addr.expect("the server listens") }
    }

    fn kill(&mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("it is dead");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const LISTEN: &str = "TRESPASS_TEST_LISTEN";

/// The other process of the tests below: nothing without its parent.
#[test]
fn a_server_process() {
    let Ok(addr) = std::env::var(LISTEN) else { return };
    let options = Options::parse_from(["kv", "--fabric", "tcp", "--listen", &addr]);
    let place = options.place().expect("an address");
    assert!(matches!(place, Place::Server { .. }));
    app::run(&fabric(), &means::Messages, place, &options).expect("serves until it is killed");
}

#[test]
fn the_program_in_two_processes() {
    let server = Process::serve(anywhere());
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("the_program_in_two_processes");
    let tree = root.join("tree");
    fs::create_dir_all(&tree).expect("a directory");
    fs::write(tree.join("short"), b"short").expect("a file");
    fs::write(tree.join("long"), vec![7; 3 << 20]).expect("a file");
    let json = root.join("report.json");

    let addr = server.addr.to_string();
    let options = Options::parse_from([
        "kv",
        "--fabric",
        "tcp",
        "--connect",
        &addr,
        "--load",
        tree.to_str().unwrap(),
        "--operations",
        "300",
        "--clients",
        "3",
        "--records",
        "200",
        "--workload-operations",
        "200",
        "--json",
        json.to_str().unwrap(),
    ]);
    let place = options.place().expect("an address");
    let fine = app::run(&fabric(), &means::Messages, place, &options).expect("runs");
    assert!(fine, "nothing was wrong");

    let report: serde_json::Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).expect("it is JSON");
    assert_eq!(report["fabric"], "tcp");
    assert_eq!((&report["errors"], &report["mismatches"]), (&0.into(), &0.into()));
    assert_eq!(report["phases"][1]["bytes"], 5 + (3 << 20));
    let runs = report["workloads"].as_array().expect("there are");
    assert_eq!(runs.len(), 6, "each once: there is no memory to be read");
    assert!(runs.iter().all(|run| run["gets_by"] == "message" && run["operations"] == 200));
}

#[test]
fn a_server_process_that_is_killed() {
    let mut process = Process::serve(anywhere());
    let addr = process.addr;
    a_server_that_dies(&fabric(), &addr, || {
        process.kill();
        process = Process::serve(addr);
    });
}

#[test]
fn whoever_waits_for_a_process_that_is_killed_is_woken() {
    let mut process = Process::serve(anywhere());
    let mut track = block_on(fabric().connect(&process.addr)).expect("connects");
    let waiting = std::thread::spawn(move || block_on(track.recv()).map(|message| message.len()));
    process.kill();
    let error = waiting.join().expect("no panic").expect_err("nothing was sent");
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
}
