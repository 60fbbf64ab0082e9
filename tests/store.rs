//! The key-value store of `examples/kv`: one generic exercise, on each fabric that needs nothing but Rust.
#![cfg(feature = "mock")]

mod store_cases;
#[path = "support/toy/mod.rs"]
#[allow(dead_code, reason = "the conformance kit uses the rest")]
mod toy;

use futures_executor::block_on;
use store_cases::one_sided::{self, LendingEnds};
use store_cases::store::Client;
use store_cases::{Ends, a_server_that_dies, exercise};
use toy::{Toy, ToyAddr, ToyConfig};
use trespass::carriers::MessageConfig;
use trespass::mock::{MockConfig, MockFabric, MockNet, MockTrack};

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

/// Puts at once share doorbells; so do their answers, of which this end knows nothing.
#[test]
fn a_doorbell_for_many_on_the_mock() {
    let ends = ends_in(&MockNet::new());
    let server = ends.serve();
    let connecting = Client::connect(&ends.client, server.addr(), MessageConfig::default());
    let mut client = block_on(connecting).expect("connects");
    let pairs: Vec<_> = (0..32_u8).map(|number| ([number], b"value")).collect();
    let doorbells = |client: &Client<MockTrack>| client.carrier().track().expect("it lives").counters().doorbells;
    let before = doorbells(&client);
    let putting = client.put_many(&pairs, |_, outcome| outcome.expect("puts"));
    block_on(putting).expect("the connection lives");
    let rung = doorbells(&client) - before;
    assert!(rung <= 8, "{rung} doorbells for 32 puts, and for credits");
    drop(client);
    drop(server);
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
