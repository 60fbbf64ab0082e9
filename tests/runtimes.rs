//! Tracks and carriers on every executor, in process: see `verbs_runtimes.rs` for the same on real verbs.
#![cfg(feature = "mock")]

#[path = "support/runtimes/mod.rs"]
mod runtimes;

use trespass::carriers::{MessageCarrier, MessageConfig};
use trespass::core::{Fabric, Incoming, Listener, ListenerExt, Role, TryError, wait};
use trespass::mock::{MockConfig, MockFabric, MockNet};

/// Nothing has to be there for the mock.
fn is_skipped() -> bool {
    false
}

fn fabrics() -> runtimes::cases::Ends<MockFabric> {
    let net = MockNet::new();
    let config = MockConfig::default().with_max_message(4096).with_send_slots(8).with_recv_slots(8);
    let fabric = || net.fabric(config.clone()).expect("a good configuration");
    (fabric(), fabric(), "server".parse().expect("an address"))
}

runtimes::on_every_runtime!(crate::fabrics);

/// A thread that uses `try_` calls alone pays for no notification, and no executor is there.
#[test]
fn busy_polling_arms_nothing() {
    const ROUNDS: u32 = 500;
    let (server, client, addr) = fabrics();
    let mut listener = server.listen(&addr).expect("a listener");
    let connecting = client.connect(&listener.local());
    let accepted = wait(async { listener.incoming().await.expect("a request").accept().await.expect("accepted") });
    let connected = wait(connecting).expect("connected");
    let answering = std::thread::spawn(move || {
        let opening = MessageCarrier::open(accepted, Role::Acceptor, MessageConfig::default());
        wait(opening).expect("opened")
    });
    let mut client = wait(MessageCarrier::open(connected, Role::Connector, MessageConfig::default())).expect("opened");
    let mut server = answering.join().expect("the acceptor");
    let armed =
        |carrier: &MessageCarrier<_>| carrier.track().map(|track: &trespass::mock::MockTrack| track.counters().arms);
    let before = (armed(&client), armed(&server));
    let echo = std::thread::spawn(move || {
        for _ in 0..ROUNDS {
            let heard = busily(|| server.try_recv()).expect("a question");
            busily(|| server.try_send(&heard));
            server.flush().expect("flushed");
        }
        server
    });
    for round in 0..ROUNDS {
        busily(|| client.try_send(&round.to_le_bytes()));
        client.flush().expect("flushed");
        assert_eq!(busily(|| client.try_recv()).expect("an answer")[..], round.to_le_bytes());
    }
    let server = echo.join().expect("the echo");
    assert_eq!((armed(&client), armed(&server)), before);
}

fn busily<T, E: std::error::Error>(mut attempt: impl FnMut() -> Result<T, TryError<E>>) -> T {
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(TryError::WouldBlock) => std::thread::yield_now(),
            Err(TryError::Failed(error)) => panic!("{error}"),
        }
    }
}
