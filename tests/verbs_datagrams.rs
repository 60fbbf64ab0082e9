//! Datagrams between two devices: ports of many peers, and tracks that share the port of their listener.
#![cfg(feature = "verbs")]

use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_executor::block_on;
use trespass_core::{
    Endpoint, ErrorKind, Fabric, Immediate, ImmediateSend, Incoming, Listener, ListenerExt, Port, PortExt, PortFabric,
    RecvSide, RecvSideExt, SendSide, SendSideExt, Sourced, Track, TransportError, TryError,
};
use trespass_verbs::{
    DatagramConfig, DatagramListener, UnreliableTrack, VerbsConfig, VerbsDatagrams, VerbsError, VerbsPort,
};

#[path = "support/rdma.rs"]
mod rdma;
use rdma::needs_rdma;

/// Datagrams on the device that connects and on the one that listens.
fn fabrics(config: &DatagramConfig) -> (VerbsDatagrams, VerbsDatagrams) {
    let (near, far) = rdma::addresses();
    let open = |ip| rdma::fabric(ip, VerbsConfig::default()).datagrams(config.clone()).expect("datagrams");
    (open(near), open(far))
}

fn far_addr() -> SocketAddr {
    SocketAddr::new(rdma::addresses().1, 0)
}

/// Connects, and accepts.
fn join(near: &VerbsDatagrams, listener: &mut DatagramListener) -> (UnreliableTrack, UnreliableTrack) {
    let connecting = near.connect(&listener.local());
    block_on(async {
        let accepted = listener.incoming().await.expect("a request").accept().await.expect("accepted");
        (connecting.await.expect("connected"), accepted)
    })
}

/// One message of `len` bytes of `byte`, sent.
fn put(track: &mut UnreliableTrack, len: usize, byte: u8) {
    let mut buf = block_on(track.reserve(len)).expect("a slot");
    buf.fill(byte);
    track.send(buf).expect("sent");
    track.flush().expect("flushed");
}

#[test]
fn ports_find_each_other_and_answer() {
    needs_rdma!();
    let (near, far) = fabrics(&DatagramConfig::default());
    let (mut asks, mut answers) = block_on(async {
        let answers = far.open_port(&far_addr()).expect("a port");
        let asks = near.open_port(&SocketAddr::new(rdma::addresses().0, 0)).expect("a port");
        (asks, answers)
    });
    block_on(async {
        let peer = near.resolve(&answers.local()).await.expect("found");
        assert_eq!(peer, answers.peer());
        for len in [0, 1, 40, 256, 257, asks.limits().max_message] {
            let mut buf = asks.reserve(len).await.expect("a slot");
            buf.fill(len as u8);
            asks.send_to(buf, &peer).expect("sent");
            asks.flush().expect("flushed");
            let question = answers.recv().await.expect("the question");
            assert_eq!((question.len(), question.source()), (len, asks.peer()));
            assert!(question.iter().all(|byte| *byte == len as u8));
            let mut buf = answers.reserve(len).await.expect("a slot");
            buf.copy_from_slice(&question);
            answers.send_to(buf, &question.source()).expect("sent");
            answers.flush().expect("flushed");
            let answer = asks.recv().await.expect("the answer");
            assert_eq!((answer.len(), answer.source()), (len, peer));
            assert_eq!(answer.immediate(), None);
        }
        asks.close().await.expect("closed");
        answers.close().await.expect("closed");
    });
    assert_eq!((asks.handles_made(), answers.handles_made()), (1, 1));
}

#[test]
fn a_track_connects_and_echoes() {
    needs_rdma!();
    let (near, far) = fabrics(&DatagramConfig::default());
    let mut listener = far.listen(&far_addr()).expect("a listener");
    let (mut one, mut other) = join(&near, &mut listener);
    assert_eq!(one.peer(), listener.local());
    assert_eq!((one.local(), other.local()), (other.peer(), one.peer()));
    for round in 0..200u32 {
        let len = [0, 1, 40, 256, 257, 1000, one.limits().max_message][round as usize % 7];
        put(&mut one, len, round as u8);
        let message = block_on(other.recv()).expect("a message");
        assert_eq!(&*message, vec![round as u8; len]);
        put(&mut other, len, !round as u8);
        assert_eq!(&*block_on(one.recv()).expect("the echo"), vec![!round as u8; len]);
    }
    block_on(one.close()).expect("closed");
    block_on(other.close()).expect("closed");
    assert!(matches!(one.try_recv(), Err(TryError::Failed(VerbsError::Closed))));
    assert_eq!((one.dropped(), other.dropped(), other.strangers()), (0, 0, 0));
}
