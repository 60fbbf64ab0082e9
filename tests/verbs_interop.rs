//! No hidden header: programs that know nothing of trespass are peers, at the track level. rdma_client and rdma_server
//! (rdmacm-utils) send one message of 16 bytes each way and go.
#![cfg(feature = "verbs")]

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures_executor::block_on;
use trespass_core::{
    ErrorKind, Fabric, Incoming, Listener, ListenerExt, RecvSideExt, SendSide, SendSideExt, TransportError,
};
use trespass_verbs::{VerbsConfig, VerbsError};

#[path = "support/rdma.rs"]
mod rdma;
use rdma::needs_rdma;

#[test]
fn rdma_client_talks_to_a_listener() {
    needs_rdma!();
    let (_, ip) = rdma::addresses();
    let fabric = rdma::fabric(ip, VerbsConfig::default());
    let mut listener = fabric.listen(&SocketAddr::new(ip, 0)).expect("a listener");
    let port = listener.local().port().to_string();
    let client = Command::new("rdma_client")
        .args(["-s", &ip.to_string(), "-p", &port])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("rdma_client of rdmacm-utils");
    block_on(async {
        let mut track = listener.incoming().await.expect("a request").accept().await.expect("accepted");
        assert_eq!(track.recv().await.expect("its message").len(), 16);
        let mut reply = track.reserve(16).await.expect("a slot");
        reply.copy_from_slice(b"sixteen bytes :)");
        track.send(reply).expect("sent");
        // It leaves once it has its answer: the end is not an error of ours.
        let end = track.recv().await.expect_err("nothing more");
        assert_eq!(end.kind(), ErrorKind::Closed, "{end}");
    });
    let output = client.wait_with_output().expect("its output");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_track_talks_to_rdma_server() {
    needs_rdma!();
    let (local, ip) = rdma::addresses();
    let mut server = Command::new("rdma_server")
        .args(["-s", &ip.to_string(), "-p", "7475"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("rdma_server of rdmacm-utils");
    let fabric = rdma::fabric(local, VerbsConfig::default());
    let begun = Instant::now();
    block_on(async {
        let mut track = loop {
            match fabric.connect(&SocketAddr::new(ip, 7475)).await {
                Ok(track) => break track,
                // The program takes a moment to listen, and says nothing when it does.
                Err(VerbsError::Refused { .. }) if begun.elapsed() < Duration::from_secs(20) => {}
                Err(error) => panic!("{error}; {:?}", server.try_wait()),
            }
        };
        let mut message = track.reserve(16).await.expect("a slot");
        message.copy_from_slice(b"sixteen bytes :)");
        track.send(message).expect("sent");
        assert_eq!(track.recv().await.expect("its answer").len(), 16);
        track.close().await.expect("closed");
    });
    let output = server.wait_with_output().expect("its output");
    assert!(output.status.success(), "{output:?}");
}
