//! The publish-subscribe of `examples/custom_carrier` on each fabric that needs nothing but Rust.
#![cfg(feature = "mock")]

mod pubsub_cases;
#[path = "../examples/custom_track/tcp/mod.rs"]
#[allow(dead_code, reason = "the conformance kit uses the rest")]
mod tcp;

use pubsub_cases::{Ends, exercise};
use tcp::{TcpConfig, TcpFabric};
use trespass::mock::{MockConfig, MockNet};

#[test]
fn publish_subscribe_on_the_mock() {
    exercise(|| {
        let net = MockNet::new();
        let fabric = || net.fabric(MockConfig::default()).expect("the defaults will do");
        Ends { server: fabric(), client: fabric(), addr: "publisher".parse().expect("an address") }
    });
}

/// A carrier of one's own over a track of one's own.
#[test]
fn publish_subscribe_on_tcp() {
    exercise(|| {
        let fabric = || TcpFabric::open(TcpConfig::default()).expect("the defaults will do");
        Ends { server: fabric(), client: fabric(), addr: "127.0.0.1:0".parse().expect("an address") }
    });
}
