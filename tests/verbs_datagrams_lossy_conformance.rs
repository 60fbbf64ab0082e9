//! Datagram tracks over real unreliable queue pairs keep the contract over a network that loses and reorders, too.
#![cfg(feature = "verbs")]

use std::future::poll_fn;
use std::net::SocketAddr;

use futures_executor::block_on;
use trespass_conformance::{Harness, run_all_for_datagrams};
use trespass_core::{Fabric, Incoming, Listener, ListenerExt, RecvSide, SendSide, TryError};
use trespass_verbs::{UnreliableTrack, VerbsDatagrams, VerbsError};

use harness::fabrics;
use netem::Spoilt;
use verbs_harness::{LEISURE, harness_of_verbs};

#[path = "support/verbs_datagrams_harness.rs"]
mod harness;
#[path = "support/netem.rs"]
mod netem;
#[path = "support/rdma.rs"]
mod rdma;
#[path = "support/verbs_harness.rs"]
mod verbs_harness;

/// Over links that are bad for as long as properties are checked. What is late is at most 2 ms late, which is far within
/// what the kit waits for.
struct Lossy;

impl Harness for Lossy {
    harness_of_verbs!(VerbsDatagrams, UnreliableTrack);
}

/// One test for all properties: the links are spoilt once, and what was done to packets is counted from then on.
#[test]
fn the_contract_is_kept_on_bad_links() {
    if let Some(why) = rdma::unavailable().or_else(netem::foreign) {
        return eprintln!("SKIPPED: {why}");
    }
    let spoilt = Spoilt::links("delay 2ms reorder 25% 50% loss 5%");
    let summary = run_all_for_datagrams(&Lossy, &[]);
    let lost = spoilt.lost();
    let (sent, overtaken) = overtaking();
    drop(spoilt);
    eprintln!("{summary}; of the packets of that each link lost {lost:?}; then of {sent}, {overtaken} were overtaken");
    assert!(summary.failed.is_empty(), "{summary}");
    assert!(summary.passed.len() > 30, "hardly anything was checked: {summary}");
    assert!(lost.iter().all(|lost| *lost > 0), "a link lost nothing, so nothing was shown: {lost:?}");
    assert!(overtaken > 0, "the links reordered nothing, so nothing was shown");
}

/// Sends numbered datagrams, a full queue at a time, until one has come after one that was sent later, or so many were sent
/// that this is certain where it happens at all: the kernel counts what it drops, and not what it lets pass. How many
/// were sent, and how many came late.
fn overtaking() -> (u32, u32) {
    let (mut near, mut far) = pair();
    let (mut sent, mut overtaken, mut latest) = (0, 0, 0);
    while sent < 10_000 && overtaken == 0 {
        block_on(poll_fn(|cx| near.poll_send_ready(cx)));
        while let Some(mut buf) = there(near.try_reserve(4)) {
            buf.copy_from_slice(&u32::to_le_bytes(sent));
            near.send(buf).expect("sent");
            sent += 1;
        }
        near.flush().expect("flushed");
        while let Some(message) = there(far.try_recv()) {
            let number = u32::from_le_bytes(message[..].try_into().expect("four bytes"));
            overtaken += u32::from(number < latest);
            latest = latest.max(number);
        }
    }
    (sent, overtaken)
}

fn there<T>(result: Result<T, TryError<VerbsError>>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(TryError::WouldBlock) => None,
        Err(TryError::Failed(error)) => panic!("{error}"),
    }
}

fn pair() -> (UnreliableTrack, UnreliableTrack) {
    let fabrics = fabrics(LEISURE);
    let mut listener = fabrics.server.listen(&SocketAddr::new(rdma::addresses().1, 0)).expect("a listener");
    let connecting = fabrics.client.connect(&listener.local());
    block_on(async {
        let accepted = listener.incoming().await.expect("a request").accept().await.expect("accepted");
        (connecting.await.expect("connected"), accepted)
    })
}
