//! The key-value store of `examples/kv` on real verbs, whose clients read the server's memory: the same exercise as on the
//! mock, then server, readers and writers as processes of their own.
#![cfg(feature = "verbs")]

#[path = "support/rdma.rs"]
mod rdma;
#[allow(dead_code, reason = "other tests use the rest")]
mod store_cases;

use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

use rdma::needs_rdma;
use store_cases::Ends;
use store_cases::one_sided::{self, LendingEnds, ROUNDS};
use trespass::verbs::{VerbsConfig, VerbsFabric};

fn ends_at(addr: SocketAddr) -> LendingEnds<VerbsFabric> {
    let (client, _) = rdma::addresses();
    let ends = Ends {
        server: rdma::fabric(addr.ip(), VerbsConfig::default()),
        client: rdma::fabric(client, VerbsConfig::default()),
        addr,
    };
    LendingEnds { ends, lend_at: SocketAddr::new(addr.ip(), 0) }
}

fn anywhere() -> SocketAddr {
    SocketAddr::new(rdma::addresses().1, 0)
}

#[test]
fn the_store_on_verbs_by_reads() {
    needs_rdma!();
    one_sided::exercise(|| ends_at(anywhere()));
}

/// This program again, as one of the processes below; killed with SIGKILL when this is dropped.
struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(role: &str, addr: SocketAddr) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", role, "--nocapture"])
            .env(ADDR, addr.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, lines }
    }

    /// A server, and where it listens.
    fn serve(addr: SocketAddr) -> (Self, SocketAddr) {
        let mut process = Self::start("a_server_process", addr);
        let addr = process.says(LISTENING).parse().expect("an address");
        (process, addr)
    }

    /// What it says after `word`.
    fn says(&mut self, word: &str) -> String {
        let line = self.lines.find_map(|line| Some(line.expect("text").split_once(word)?.1.to_owned()));
        line.unwrap_or_else(|| panic!("it ended and never said `{word}`"))
    }

    fn kill(&mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("it is dead");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, of which the test speaks elsewhere.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const ADDR: &str = "TRESPASS_TEST_ADDR";
const LISTENING: &str = "listening on ";
const READ: &str = "it read: ";

/// Where the parent of a process says that the server is. Without a parent there is nothing to do.
fn told() -> Option<SocketAddr> {
    Some(std::env::var(ADDR).ok()?.parse().expect("an address"))
}

/// Nothing without its parent.
#[test]
fn a_server_process() {
    let Some(addr) = told() else { return };
    let lending = ends_at(addr).serve_wide();
    println!("{LISTENING}{}", lending.server.addr());
    lending.server.wait().expect("serves until it is killed");
}

/// Nothing without its parent.
#[test]
fn a_reader_process() {
    let Some(addr) = told() else { return };
    let (client, _) = rdma::addresses();
    let client = one_sided::connect(&rdma::fabric(client, VerbsConfig::default()), &addr).expect("connects");
    let stats = one_sided::read_beside_writers(client, ROUNDS);
    assert_eq!(stats.lost, 0, "{stats:?}");
    println!("{READ}{} {} {}", stats.reads.reads, stats.reads.torn, stats.asked);
}

/// The server is a process, and each reader; the writers are two clients of this one.
#[test]
fn eight_reader_processes_beside_writers() {
    needs_rdma!();
    let (_server, addr) = Process::serve(anywhere());
    let (client, _) = rdma::addresses();
    let totals = one_sided::beside_writers(&rdma::fabric(client, VerbsConfig::default()), &addr, || {
        let readers: Vec<_> = (0..8).map(|_| Process::start("a_reader_process", addr)).collect();
        let said = readers.into_iter().map(|mut reader| {
            let said = reader.says(READ);
            assert!(reader.child.wait().expect("it ends").success(), "a reader found something wrong");
            said.split_whitespace().map(|number| number.parse().expect("a number")).collect::<Vec<u64>>()
        });
        said.fold([0; 3], |sum, said| std::array::from_fn(|index| sum[index] + said[index]))
    });
    let [reads, torn, asked] = totals;
    eprintln!("{reads} reads, {torn} of them torn and made again; {asked} asked for");
    assert!(reads - torn + asked >= 8 * ROUNDS);
}

#[test]
fn a_server_process_that_is_killed_while_it_is_read() {
    needs_rdma!();
    let (client, _) = rdma::addresses();
    let (mut process, addr) = Process::serve(anywhere());
    one_sided::a_server_that_dies(&rdma::fabric(client, VerbsConfig::default()), &addr, || {
        process.kill();
        (process, _) = Process::serve(addr);
    });
}
