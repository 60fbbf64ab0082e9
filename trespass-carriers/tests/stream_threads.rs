//! Halves in threads of their own, and trouble at any moment: every thread ends, and what was read is how it began.

#[path = "support/streams.rs"]
mod streams;
mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use futures_executor::block_on;
use streams::streams;
use support::{Error, pattern, small};
use trespass_carriers::StreamConfig;
use trespass_core::{ErrorKind, TransportError};

/// The next of some numbers that look random.
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

/// What befalls a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    /// A writer is dropped half-way.
    Writer,
    /// A reader is.
    Reader,
    /// A process dies.
    Kill,
    /// The cable is pulled.
    Link,
}

const LEN: usize = 20_000;

/// Whether an error is one of a peer that is gone; what its own death is to a process that was killed is its own affair.
fn gone(error: &Error, trouble: Trouble, side: usize) -> bool {
    matches!(error.kind(), ErrorKind::Closed | ErrorKind::Disconnected) || (trouble == Trouble::Kill && side == 0)
}

fn converse(seed: u64, trouble: Trouble) -> usize {
    let mut state = seed;
    let config = StreamConfig::default().with_coalesce(seed % 2 == 1);
    let track = small().with_recv_slots(8 + next(&mut state) % 5).with_send_slots(4 + next(&mut state) % 8);
    let pair = streams(track, config);
    let (fabrics, at) = (&pair.fabrics, next(&mut state) % LEN);
    let (data, ends) = (pattern(1, LEN), AtomicUsize::new(0));
    let halves = [pair.left.into_split(), pair.right.into_split()];
    thread::scope(|scope| {
        for (side, (mut read, mut write)) in halves.into_iter().enumerate() {
            let (data, ends) = (&data, &ends);
            let (mut writes, mut reads) = (state ^ side as u64, state ^ 2);
            scope.spawn(move || {
                block_on(async {
                    let mut sent = 0;
                    while sent < LEN {
                        let most = (sent + 1 + next(&mut writes) % 700).min(LEN);
                        match write.put(&data[sent..most]).await {
                            Ok(put) => sent += put,
                            Err(error) => return assert!(gone(&error, trouble, side), "{trouble:?}: {error}"),
                        }
                        match trouble {
                            _ if side == 1 || sent < at => {}
                            Trouble::Writer => return drop(write),
                            Trouble::Kill => fabrics[0].kill(),
                            Trouble::Link => fabrics[0].break_link(),
                            Trouble::Reader | Trouble::None => {}
                        }
                    }
                    if let Err(error) = write.finish().await {
                        assert!(trouble != Trouble::None && gone(&error, trouble, side), "{trouble:?}: {error}");
                    }
                });
            });
            scope.spawn(move || {
                block_on(async {
                    let mut heard = 0;
                    loop {
                        match read.fill().await {
                            Ok([]) => {
                                assert_eq!(heard, LEN, "{trouble:?}: an end of file is said by a finish alone");
                                ends.fetch_add(1, Ordering::Relaxed);
                                return;
                            }
                            Ok(bytes) => {
                                let len = bytes.len().min(1 + next(&mut reads) % 300);
                                assert!(bytes[..len] == data[heard..heard + len]);
                                read.consume(len);
                                heard += len;
                            }
                            Err(error) => return assert!(gone(&error, trouble, side), "{trouble:?}: {error}"),
                        }
                        if trouble == Trouble::Reader && side == 0 && heard >= at {
                            // Whoever writes to it waits, until its own end says goodbye to the whole.
                            return;
                        }
                    }
                });
            });
        }
    });
    ends.into_inner()
}

#[test]
fn undisturbed_everybody_gets_to_the_end() {
    for seed in 0..150 {
        assert_eq!(converse(seed, Trouble::None), 2);
    }
}

#[test]
fn whatever_happens_every_thread_ends() {
    for seed in 0..150 {
        for trouble in [Trouble::Writer, Trouble::Kill, Trouble::Link, Trouble::Reader] {
            assert!(converse(seed, trouble) <= 2);
        }
    }
}
