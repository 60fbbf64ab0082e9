//! TLS over streams in process: it encrypts, it refuses who is not to be trusted, and an end that is cut off is none.
#![cfg(feature = "mock")]

#[path = "support/mod.rs"]
mod support;

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};

use support::{Tap, exercise, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use trespass::carriers::{StreamCarrier, StreamConfig};
use trespass::core::{Fabric, Incoming, ListenerExt, Role};
use trespass::mock::{MockFabric, MockTrack};
use trespass_example_tls::identity::{Identity, connector};
use trespass_example_tls::secure;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime")
}

async fn tracks() -> (MockTrack, MockTrack) {
    let fabric = MockFabric::new();
    let addr = "server".parse().expect("an address");
    let mut listener = fabric.listen(&addr).expect("a listener");
    let connecting = fabric.connect(&addr);
    let accepted = listener.incoming().await.expect("a request").accept().await.expect("accepted");
    (connecting.await.expect("connected"), accepted)
}

async fn streams() -> (StreamCarrier<MockTrack>, StreamCarrier<MockTrack>) {
    let (near, far) = tracks().await;
    let open = |track, role| StreamCarrier::open(track, role, StreamConfig::default());
    let (near, far) = tokio::join!(open(near, Role::Connector), open(far, Role::Acceptor));
    (near.expect("opened"), far.expect("opened"))
}

#[test]
fn what_is_said_is_heard() {
    runtime().block_on(within(async {
        let fabric = MockFabric::new();
        exercise(&fabric, &fabric, &"server".parse().expect("an address")).await;
    }));
}

/// What goes through the stream is looked at: the secret is not there. Without TLS it would be.
#[test]
fn what_is_said_is_not_to_be_read_on_the_way() {
    runtime().block_on(within(async {
        let secret = b"a secret that is long enough not to come about by chance".repeat(20);
        let (near, far) = streams().await;
        let seen = Arc::<Mutex<Vec<u8>>>::default();
        let (identity, seen_near) = (Identity::self_signed().expect("an identity"), Arc::clone(&seen));
        let (tls, name) = connector(identity.certificate().clone()).expect("a connector");
        let acceptor = identity.acceptor().expect("an acceptor");
        let (near, far) = tokio::join!(
            secure::connect_over(Tap::new(near, seen_near), &tls, name),
            secure::accept_over(far, &acceptor)
        );
        let (mut near, mut far) = (near.expect("TLS"), far.expect("TLS"));
        let mut heard = vec![0; secret.len()];
        let (sent, read) = tokio::join!(near.write_all(&secret), far.read_exact(&mut heard));
        sent.expect("sent");
        read.expect("read");
        assert!(heard == secret);
        let seen = std::mem::take(&mut *seen.lock().expect("nobody panicked"));
        assert!(seen.len() > secret.len(), "{} bytes went through", seen.len());
        let piece = &secret[..16];
        assert!(!seen.windows(piece.len()).any(|bytes| bytes == piece), "the secret is there to be read");

        // The same eyes, and no TLS.
        let (near, mut far) = streams().await;
        let seen = Arc::<Mutex<Vec<u8>>>::default();
        let mut near = Tap::new(near, Arc::clone(&seen));
        let (sent, read) = tokio::join!(near.write_all(&secret), far.read_exact(&mut heard));
        sent.expect("sent");
        read.expect("read");
        let seen = std::mem::take(&mut *seen.lock().expect("nobody panicked"));
        assert!(seen.windows(piece.len()).any(|bytes| bytes == piece));
    }));
}

#[test]
fn a_server_that_is_not_trusted_is_refused_and_told() {
    runtime().block_on(within(async {
        let (near, far) = tracks().await;
        let acceptor = Identity::self_signed().expect("an identity").acceptor().expect("an acceptor");
        let another = Identity::self_signed().expect("another");
        let (tls, name) = connector(another.certificate().clone()).expect("a connector");
        let (near, far) = tokio::join!(secure::connect(near, &tls, name), secure::accept(far, &acceptor));
        let near = near.expect_err("an impostor").to_string();
        assert!(near.contains("invalid peer certificate"), "{near}");
        let far = far.expect_err("nobody who trusts it").to_string();
        assert!(far.contains("alert"), "{far}");
    }));
}

/// A connection that is cut does not look as if it were at its end, though the stream below is finished well.
#[test]
fn an_end_without_a_goodbye_of_tls_is_an_error() {
    runtime().block_on(within(async {
        let (near, far) = tracks().await;
        let identity = Identity::self_signed().expect("an identity");
        let (tls, name) = connector(identity.certificate().clone()).expect("a connector");
        let acceptor = identity.acceptor().expect("an acceptor");
        let (near, far) = tokio::join!(secure::connect(near, &tls, name), secure::accept(far, &acceptor));
        let (mut near, far) = (near.expect("TLS"), far.expect("TLS"));
        let (mut below, _) = far.into_inner();
        let (finished, read) = tokio::join!(below.finish(), near.read_u8());
        finished.expect("finished");
        assert_eq!(read.expect_err("no end").kind(), ErrorKind::UnexpectedEof);
    }));
}

/// A peer that opens a stream and says nothing is given up.
#[test]
fn a_peer_that_says_nothing_is_given_up() {
    runtime().block_on(within(async {
        let (_near, far) = streams().await;
        let acceptor = Identity::self_signed().expect("an identity").acceptor().expect("an acceptor");
        let refused = secure::accept_over(far, &acceptor).await.expect_err("silence");
        assert_eq!(refused.kind(), ErrorKind::TimedOut);
    }));
}
