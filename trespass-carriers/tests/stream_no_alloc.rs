//! No heap allocation per byte, write or read after warm-up; and none that a peer could drive up.
//!
//! Allocations are counted per thread, so everything here runs on one.

#[path = "support/streams.rs"]
mod streams;
mod support;

use std::io::IoSlice;
use std::task::{Context, Poll, Waker};

use allocation_counter::{AllocationInfo, measure};
use streams::{BYTES, opened, streams};
use support::raw::frame;
use support::{pattern, small};
use trespass_carriers::StreamConfig;
use trespass_core::{RecvSide, TryError};

/// What `action` allocates, after it was done some times to warm up.
fn steady(mut action: impl FnMut()) -> AllocationInfo {
    for _ in 0..50 {
        action();
    }
    measure(|| {
        for _ in 0..200 {
            action();
        }
    })
}

/// Passes bytes on, in polls that wait, from one writer to one reader.
macro_rules! pass {
    ($from:expr, $to:expr, $data:expr, $keep:expr) => {{
        let mut cx = Context::from_waker(Waker::noop());
        let (mut sent, mut heard) = (0, 0);
        while heard < $data.len() {
            let (one, two) = $data[sent..].split_at(($data.len() - sent) / 2);
            if sent < $data.len() {
                if let Poll::Ready(put) = $from.poll_put(&mut cx, &[IoSlice::new(one), IoSlice::new(two)]) {
                    sent += put.unwrap();
                }
            }
            assert!(matches!($from.poll_push(&mut cx), Poll::Pending | Poll::Ready(Ok(()))));
            if let Poll::Ready(bytes) = $to.poll_fill(&mut cx) {
                let bytes = bytes.unwrap();
                let len = bytes.len();
                $keep[heard..heard + len].copy_from_slice(bytes);
                heard += len;
                $to.consume(len);
            }
        }
    }};
}

#[test]
fn bytes_of_any_length_allocate_nothing() {
    for coalesce in [false, true] {
        let mut pair = streams(small(), StreamConfig::default().with_keepalive(None).with_coalesce(coalesce));
        let mut keep = vec![0; 100_000];
        for len in [1, 64, 256, 257, 1000, 5000, 100_000] {
            let data = pattern(len, len);
            let counted = steady(|| {
                pass!(pair.left, pair.right, data, keep);
                pass!(pair.right, pair.left, data, keep);
            });
            assert_eq!(counted.count_total, 0, "{len} bytes");
            assert!(keep[..len] == data);
        }
    }
}

#[test]
fn halves_allocate_nothing() {
    let pair = streams(small(), StreamConfig::default().with_keepalive(None));
    let (mut read, mut write) = pair.left.into_split();
    let (mut peer_read, mut peer_write) = pair.right.into_split();
    let (data, mut keep) = (pattern(1, 5000), vec![0; 5000]);
    let counted = steady(|| {
        pass!(write, peer_read, data, keep);
        pass!(peer_write, read, data, keep);
    });
    assert_eq!(counted.count_total, 0);
}

/// What a peer sends to an end that only writes waits in the track's own slots.
#[test]
fn a_peer_drives_up_nothing() {
    let (mut stream, mut raw) = opened(StreamConfig::default().with_keepalive(None));
    let mut idle = 0;
    let counted = measure(|| {
        while idle < 100 {
            idle += 1;
            let _ = stream.try_put(&[0; 256]);
            while let Ok(heard) = raw.track.try_recv() {
                drop(heard);
            }
            let posted = raw.track.posted() as u32;
            // Four are all that it has credits for.
            if idle < 5 {
                raw.say(&frame(BYTES, posted.min(8), &[1; 240]));
            }
        }
    });
    assert!(matches!(stream.try_put(b"x"), Ok(_) | Err(TryError::WouldBlock)));
    assert!(counted.bytes_max < 2000, "{counted:?}");
}
