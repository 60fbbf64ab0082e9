//! Ends: what becomes of operations when a track is closed or ends.

use std::collections::VecDeque;
use std::task::Context;

use trespass_core::{Access, Completed, ErrorKind, RemoteMemory, SendSide, TransportError};

use super::operations::fill;
use super::{Loan, content, done, loan, put_add, put_read, put_write, region, slice, stamped};
use crate::harness::MemoryHarness;
use crate::traffic::{Pair, check, close, expect_kind, failure, now, receive_end, send_end, try_put};
use crate::wait::{Counter, Waits, poll_once};

/// A close waits for operations, flushed or not; their completions can be taken after it, and then there is an end.
pub fn a_close_waits_for_operations<H: MemoryHarness>(h: &H) {
    for flush in [true, false] {
        let Loan { pair: Pair { mut client, mut server, fabrics, .. }, lent } = loan(h, 40_000, Access::ReadWrite);
        h.wait("permits", async {
            let from = stamped(&fabrics.client, 1, 40_000);
            put_write(&mut client, from, 0, slice(&lent.remote, 0, 40_000), 1).await;
            let into = region(&fabrics.client, 40_000);
            put_read(&mut client, into, 0, slice(&lent.remote, 0, 40_000), 2).await;
        });
        if flush {
            client.flush().expect("a flush");
        }
        close(h, &mut client);
        let end = receive_end(h, &mut server);
        expect_kind("the end after a clean close", &end, &[ErrorKind::Closed]);
        check(&content(&lent.shared), 1, 40_000);
        for tag in 1..=2 {
            let memory = h.wait("a completion after a close", done(&mut client, tag));
            check(&memory, 1, 40_000);
        }
        expect_no_more(&mut client, &[ErrorKind::Closed]);
        expect_no_permits(&mut client, &[ErrorKind::Closed]);
    }
}

/// Nothing comes any more, and that is said again and again.
pub(super) fn expect_no_more<S: RemoteMemory>(side: &mut S, kinds: &[ErrorKind]) {
    let first = failure("a completion after the end", side.try_complete()).expect("an end rather than WouldBlock");
    expect_kind("a completion after the end", &first, kinds);
    for _ in 0..3 {
        let again = failure("a completion after the end", side.try_complete()).expect("an end rather than WouldBlock");
        assert_eq!(again.to_string(), first.to_string(), "the first cause does not stick");
        assert!(poll_once(|cx| side.poll_complete_ready(cx)).is_some(), "not ready to say that it has ended");
        assert!(poll_once(|cx| side.poll_write_permit_ready(cx)).is_some(), "not ready to say that it has ended");
        assert!(poll_once(|cx| side.poll_fetch_permit_ready(cx)).is_some(), "not ready to say that it has ended");
    }
}

/// No permit is given.
fn expect_no_permits<S: RemoteMemory>(side: &mut S, kinds: &[ErrorKind]) {
    let error = failure("a permit after the end", side.try_write_permit()).expect("an end rather than WouldBlock");
    expect_kind("a permit after the end", &error, kinds);
    let error =
        failure("a fetch permit after the end", side.try_fetch_permit()).expect("an end rather than WouldBlock");
    expect_kind("a fetch permit after the end", &error, kinds);
}

/// What is under way when the track ends comes back once, in its turn, done or with what ended the track; so does what was
/// never flushed. Then the end is told.
pub fn the_end_gives_all_memory_back<H: MemoryHarness>(h: &H) {
    for way in ["the peer is dropped", "it is closed in vain", "nothing is flushed"] {
        let Loan { pair: Pair { mut client, mut server, fabrics, .. }, lent } = loan(h, 64, Access::ReadWrite);
        let held = fill(h, &mut client, &mut server);
        if way != "nothing is flushed" {
            assert!(try_put(&mut client, 900, 20), "no slot of an idle track");
        }
        let mut places = VecDeque::new();
        let mut tag = 0;
        h.wait("permits", async {
            for len in [8, 16, 24] {
                let (from, into) = (stamped(&fabrics.client, 1, len), region(&fabrics.client, 64));
                places.push_back((tag, Some(from.as_ptr().addr())));
                put_write(&mut client, from, 0, slice(&lent.remote, 0, len), tag).await;
                if len == 16 {
                    if way != "nothing is flushed" {
                        client.flush().expect("a flush");
                    }
                    places.push_back((tag + 1, Some(into.as_ptr().addr())));
                    put_read(&mut client, into, 0, slice(&lent.remote, 0, 64), tag + 1).await;
                }
                tag += 2;
            }
            if h.has_atomics() {
                places.push_back((tag, None));
                put_add(&mut client, lent.remote.word(0).expect("a word"), 1, tag).await;
            }
        });
        let counter = Counter::new();
        let waker = counter.waker();
        if way == "the peer is dropped" {
            let pending = client.poll_complete_ready(&mut Context::from_waker(&waker)).is_pending();
            assert!(pending, "ready, though nothing is completed");
            drop(server);
            counter.expect_wake(h, "the end, by who waited for a completion");
        } else {
            drop(server);
            send_end(h, &mut client);
        }
        if way == "it is closed in vain" {
            let result = h.wait("a close after the end", crate::wait::SendWait::close(&mut client));
            assert!(result.is_err(), "a close is clean, though operations were not done");
        }
        all_come_back(h, &mut client, places, way);
        expect_no_more(&mut client, &[ErrorKind::Closed]);
        drop(held);
    }
}

fn all_come_back<H: MemoryHarness, S: RemoteMemory>(
    h: &H,
    side: &mut S,
    places: VecDeque<(u64, Option<usize>)>,
    way: &str,
) {
    for (tag, place) in places {
        let what = format_args!("operation {tag} to come back ({way})");
        let completed = h.spin(what, || match side.try_complete() {
            Ok(completed) => Some(completed),
            Err(trespass_core::TryError::WouldBlock) => None,
            Err(trespass_core::TryError::Failed(error)) => panic!("operation {tag} never came back ({way}): {error}"),
        });
        assert_eq!(completed.tag(), tag, "operations come back in another order ({way})");
        let error = match completed {
            Completed::Memory { region, result, .. } => {
                assert_eq!(Some(region.as_ptr().addr()), place, "other memory came back ({way})");
                result.err()
            }
            Completed::Word { result, .. } => {
                assert!(place.is_none(), "memory is lost ({way})");
                result.err()
            }
            _ => None,
        };
        let error = error.unwrap_or_else(|| panic!("operation {tag} was done, though it had no room ({way})"));
        expect_kind(&format!("an operation of a track that has ended ({way})"), &error, &[ErrorKind::Closed]);
    }
}

/// Permits that were claimed are no good after the end, and memory that is queued with one comes back.
pub fn permits_end_with_the_track<H: MemoryHarness>(h: &H) {
    let Loan { pair: Pair { mut client, server, fabrics, .. }, lent } = loan(h, 100, Access::ReadWrite);
    let write_permit = now(client.try_write_permit()).expect("a permit of an idle track");
    let fetch_permit = now(client.try_fetch_permit()).expect("a permit of an idle track");
    let dropped = (now(client.try_write_permit()), now(client.try_fetch_permit()));
    let head = now(client.try_reserve(1)).expect("a slot of an idle track");
    drop(server);
    let ended = send_end(h, &mut client).kind();
    let to = slice(&lent.remote, 0, 100);
    let unsent =
        client.write(write_permit, stamped(&fabrics.client, 1, 100), 0, to, 1).expect_err("a write was queued");
    expect_kind("a write after the end", &unsent.error, &[ended]);
    check(&unsent.buf.1, 1, 100);
    let unsent = client.read(fetch_permit, stamped(&fabrics.client, 2, 100), 0, to, 2).expect_err("a read was queued");
    expect_kind("a read after the end", &unsent.error, &[ended]);
    check(&unsent.buf.1, 2, 100);
    let unsent = client.send_gathered(head, stamped(&fabrics.client, 3, 100), 0..100, 3).expect_err("it was queued");
    expect_kind("a gathered send after the end", &unsent.error, &[ended]);
    check(&unsent.buf.1, 3, 100);
    expect_no_more(&mut client, &[ended]);
    expect_no_permits(&mut client, &[ended]);
    // In an order that a user may choose: what belongs to a track outlives it.
    drop(client);
    drop((dropped, unsent));
}
