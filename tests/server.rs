//! One server, and each carrier on it, on the fabrics that need nothing but Rust.
#![cfg(feature = "mock")]

mod server_cases;
#[path = "../examples/custom_track/tcp/mod.rs"]
#[allow(dead_code, reason = "the conformance kit uses the rest")]
mod tcp;

use server_cases::{Ends, exercise_all, exercise_datagrams, exercise_rendezvous};
use tcp::{TcpConfig, TcpFabric};
use trespass::mock::{MockConfig, MockDatagramConfig, MockDatagrams, MockFabric, MockNet};

fn mock() -> Ends<MockFabric> {
    let net = MockNet::new();
    let fabric = || net.fabric(MockConfig::default()).expect("the defaults will do");
    Ends { server: fabric(), client: fabric(), addr: "server".parse().expect("an address") }
}

#[test]
fn any_carrier_on_the_mock() {
    exercise_all(mock);
}

/// A carrier of any kind over a track of one's own.
#[test]
fn any_carrier_on_tcp() {
    exercise_all(|| {
        let fabric = || TcpFabric::open(TcpConfig::default()).expect("the defaults will do");
        Ends { server: fabric(), client: fabric(), addr: "127.0.0.1:0".parse().expect("an address") }
    });
}

#[test]
fn long_messages_on_the_mock() {
    exercise_rendezvous(&mock());
}

#[test]
fn datagrams_on_the_mock() {
    let Ends { server, client, addr } = mock();
    let datagrams = |fabric: MockFabric| -> MockDatagrams {
        fabric.datagrams(MockDatagramConfig::default()).expect("the defaults will do")
    };
    exercise_datagrams(&Ends { server: datagrams(server), client: datagrams(client), addr });
}
