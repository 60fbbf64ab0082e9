//! The key-value store of `examples/kv` on real verbs: the same generic exercise as on the mock, then a server in a process
//! of its own.
#![cfg(feature = "verbs")]

#[path = "support/rdma.rs"]
mod rdma;
mod store_cases;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use rdma::needs_rdma;
use store_cases::store::{Server, ServerConfig};
use store_cases::{Ends, a_server_that_dies, exercise};
use trespass::verbs::{VerbsConfig, VerbsFabric};

fn ends() -> Ends<VerbsFabric> {
    let (client, server) = rdma::addresses();
    Ends {
        server: rdma::fabric(server, VerbsConfig::default()),
        client: rdma::fabric(client, VerbsConfig::default()),
        addr: SocketAddr::new(server, 0),
    }
}

#[test]
fn the_store_on_verbs() {
    needs_rdma!();
    exercise(ends);
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
        let addr = lines.find_map(|line| Some(line.split_once(LISTENING)?.1.parse().expect("an address")));
        Self { child, addr: addr.expect("the server listens") }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, of which the test speaks elsewhere.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const LISTEN: &str = "TRESPASS_TEST_LISTEN";
const LISTENING: &str = "listening on ";

/// The other process of the test below: nothing without its parent.
#[test]
fn a_server_process() {
    let Ok(addr) = std::env::var(LISTEN) else { return };
    let addr: SocketAddr = addr.parse().expect("an address");
    let server = Server::start(&rdma::fabric(addr.ip(), VerbsConfig::default()), &addr, ServerConfig::default());
    let server = server.expect("listens");
    println!("{LISTENING}{}", server.addr());
    server.wait().expect("serves until it is killed");
}

#[test]
fn a_server_process_that_is_killed() {
    needs_rdma!();
    let (client, server) = rdma::addresses();
    let fabric = rdma::fabric(client, VerbsConfig::default());
    let mut process = Process::serve(SocketAddr::new(server, 0));
    let addr = process.addr;
    a_server_that_dies(&fabric, &addr, || {
        process.child.kill().expect("SIGKILL");
        process.child.wait().expect("it is dead");
        process = Process::serve(addr);
    });
}
