//! The key-value store of `examples/kv`: one generic exercise, on each fabric that needs nothing but Rust.
#![cfg(feature = "mock")]

mod store_cases;
#[path = "support/toy/mod.rs"]
#[allow(dead_code, reason = "the conformance kit uses the rest")]
mod toy;

use store_cases::one_sided::{self, LendingEnds};
use store_cases::{Ends, a_server_that_dies, exercise};
use toy::{Toy, ToyAddr, ToyConfig};
use trespass::mock::{MockConfig, MockFabric, MockNet};

/// Two fabrics in one net, as two processes with a device each.
fn ends_in(net: &MockNet) -> Ends<MockFabric> {
    let fabric = || net.fabric(MockConfig::default()).expect("the defaults will do");
    Ends { server: fabric(), client: fabric(), addr: "store".parse().expect("an address") }
}

#[test]
fn the_store_on_the_mock() {
    exercise(|| ends_in(&MockNet::new()));
}

#[test]
fn a_server_that_is_killed_on_the_mock() {
    let net = MockNet::new();
    let ends = ends_in(&net);
    let _dead = ends.serve();
    let mut alive = None;
    a_server_that_dies(&ends.client, &ends.addr, || {
        ends.server.kill();
        alive = Some(ends_in(&net).serve());
    });
}

fn lending_ends_in(net: &MockNet) -> LendingEnds<MockFabric> {
    LendingEnds { ends: ends_in(net), lend_at: "table".parse().expect("an address") }
}

#[test]
fn the_store_on_the_mock_by_reads() {
    one_sided::exercise(|| lending_ends_in(&MockNet::new()));
}

#[test]
fn a_server_that_is_killed_while_it_is_read_on_the_mock() {
    let net = MockNet::new();
    let lending = lending_ends_in(&net);
    let _dead = lending.serve();
    let mut alive = None;
    one_sided::a_server_that_dies(&lending.ends.client, &lending.ends.addr, || {
        lending.ends.server.kill();
        alive = Some(lending_ends_in(&net).serve());
    });
}

#[test]
fn the_store_on_a_toy_fabric() {
    exercise(|| {
        let fabric = Toy::new(ToyConfig::default());
        Ends { server: fabric.clone(), client: fabric, addr: ToyAddr(7) }
    });
}
