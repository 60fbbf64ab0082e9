//! On real verbs too, no message allocates once a track is set up. A binary of its own: its allocator counts.
#![cfg(feature = "verbs")]

use std::task::{Context, Waker};

use allocation_counter::measure;
use trespass_core::{RecvSide, SendSide, TryError};
use trespass_verbs::{ReliableTrack, VerbsConfig};

#[path = "support/rdma.rs"]
mod rdma;
use rdma::needs_rdma;

fn put(track: &mut ReliableTrack, len: usize) -> bool {
    match track.try_reserve(len) {
        Ok(mut buf) => {
            buf.fill(7);
            track.send(buf).expect("sent");
            true
        }
        Err(TryError::WouldBlock) => false,
        Err(TryError::Failed(error)) => panic!("{error}"),
    }
}

/// Spins until a message is there; the processor is left to the device, which may be software.
fn take(track: &mut ReliableTrack) -> usize {
    loop {
        match track.try_recv() {
            Ok(buf) => return buf.len(),
            Err(TryError::WouldBlock) => std::thread::yield_now(),
            Err(TryError::Failed(error)) => panic!("{error}"),
        }
    }
}

#[test]
fn a_message_allocates_nothing() {
    needs_rdma!();
    let (mut near, mut far) = rdma::pair(VerbsConfig::default().with_slots(4096, 8, 8));
    let info = measure(|| {
        for round in 0..100 {
            let len = [0, 1, 64, 256, 257, 4096][round % 6];
            assert!(put(&mut near, len));
            near.flush().expect("flushed");
            assert_eq!(take(&mut far), len);
            assert!(put(&mut far, len));
            far.flush().expect("flushed");
            assert_eq!(take(&mut near), len);
        }
    });
    assert_eq!(info.count_total, 0, "{info:?}");
}

#[test]
fn stalls_and_waits_allocate_nothing() {
    needs_rdma!();
    let (mut near, mut far) = rdma::pair(VerbsConfig::default().with_slots(4096, 8, 8));
    let mut held = Vec::with_capacity(8);
    let mut cx = Context::from_waker(Waker::noop());
    let info = measure(|| {
        for _ in 0..20 {
            while put(&mut near, 100) {}
            near.flush().expect("flushed");
            let _ = near.poll_send_ready(&mut cx);
            while held.len() < 8 {
                match far.try_recv() {
                    Ok(buf) => held.push(buf),
                    Err(TryError::WouldBlock) => std::thread::yield_now(),
                    Err(TryError::Failed(error)) => panic!("{error}"),
                }
            }
            let _ = far.poll_recv_ready(&mut cx);
            held.clear();
            let _ = far.poll_recv_ready(&mut cx);
            while near.poll_send_ready(&mut cx).is_pending() {
                std::thread::yield_now();
            }
        }
    });
    assert_eq!(info.count_total, 0, "{info:?}");
}
