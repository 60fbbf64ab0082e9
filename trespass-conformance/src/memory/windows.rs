//! Windows that are taken back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use trespass_core::{Access, ErrorKind, MemoryFabric, RemoteMemory, RemoteWindow, SendSide, SharedRegion, Window};

use super::ends::expect_no_more;
use super::{
    Loan, MemoryWait, Stop, TrackOf, content, export, loan, memory_of, put_read, put_write, read, region, slice,
    stamped, told, write,
};
use crate::harness::MemoryHarness;
use crate::traffic::{Pair, check, exchange, expect_kind, join, receive_end, send_end};
use crate::wait::Waits;

/// Ends of a track whose access was refused.
pub(super) const TARGET_ENDS: &[ErrorKind] = &[ErrorKind::Closed, ErrorKind::RemoteAccess];

/// A window that was revoked, or dropped, allows nothing; others of the same memory do as before, and so do other tracks.
pub fn a_revoked_window_allows_nothing<H: MemoryHarness>(h: &H) {
    for revoke in [true, false] {
        let Loan { mut pair, lent } = loan(h, 256, Access::ReadWrite);
        let (mut other, mut far) = join(h, &pair.fabrics.client, &mut pair.listener);
        let second = export(&lent.shared, 64..192, Access::ReadWrite);
        let second_told = told(&second);
        let Pair { mut client, server, fabrics, .. } = pair;
        let from = stamped(&fabrics.client, 1, 256);
        let from = h.wait("a write", write(&mut client, from, 0, slice(&lent.remote, 0, 256), 1));
        match revoke {
            true => lent.window.revoke().unwrap_or_else(|error| panic!("cannot revoke: {error}")),
            false => drop(lent.window),
        }
        // The owner knows that nobody writes there now.
        lent.shared.write_at(0, &[0; 256]).expect("it lies inside");
        let (_, result) = h.wait("a write to what was taken back", async {
            put_write(&mut client, from, 0, slice(&lent.remote, 0, 256), 2).await;
            memory_of(&mut client, 2).await
        });
        let error = result.expect_err("a write to a window that was taken back was done");
        expect_kind("a write to a window that was taken back", &error, &[ErrorKind::RemoteAccess]);
        expect_refused_ends(h, client, server);
        assert!(content(&lent.shared).iter().all(|byte| *byte == 0), "a window that was taken back was written to");
        let from = stamped(&fabrics.client, 3, 128);
        h.wait("a write to another window", write(&mut other, from, 0, slice(&second_told, 0, 128), 3));
        exchange(h, &mut other, &mut far, 1);
        check(&content(&lent.shared)[64..192], 3, 128);
        drop(second);
        check(&lent.shared.reclaim().ok().expect("memory whose windows are gone")[64..192], 3, 128);
    }
}

/// The requester's end is told `RemoteAccess`; the target's is told that it is over.
pub(super) fn expect_refused_ends<H: MemoryHarness>(h: &H, mut client: TrackOf<H>, mut server: TrackOf<H>) {
    let error = send_end(h, &mut client);
    expect_kind("the send side of a track whose access was refused", &error, &[ErrorKind::RemoteAccess]);
    let error = receive_end(h, &mut client);
    expect_kind("the receive side of a track whose access was refused", &error, TARGET_ENDS);
    expect_no_more(&mut client, &[ErrorKind::RemoteAccess]);
    let error = receive_end(h, &mut server);
    expect_kind("the receive side of the track whose memory refused", &error, TARGET_ENDS);
    let error = send_end(h, &mut server);
    expect_kind("the send side of the track whose memory refused", &error, TARGET_ENDS);
    expect_no_more(&mut server, TARGET_ENDS);
}

/// Reads that are under way when their window is revoked bring the right bytes or fail; none brings what the owner wrote
/// after. Readers through another window never notice.
pub fn a_window_may_be_revoked_under_reads<H: MemoryHarness>(h: &H) {
    const LEN: usize = 4096;
    let Loan { mut pair, lent } = loan(h, 2 * LEN, Access::ReadOnly);
    lent.shared.write_at(0, &[0x11; 2 * LEN]).expect("it lies inside");
    let doomed = export(&lent.shared, 0..LEN, Access::ReadOnly);
    let (doomed_told, kept_told) = (told(&doomed), lent.remote);
    let victims: Vec<_> = (0..3).map(|_| join(h, &pair.fabrics.client, &mut pair.listener)).collect();
    let (mut other, far) = join(h, &pair.fabrics.client, &mut pair.listener);
    let fabric = &pair.fabrics.client;
    let (reading, stop) = (AtomicUsize::new(0), Stop::default());
    thread::scope(|scope| {
        let victims: Vec<_> = victims
            .into_iter()
            .map(|(client, server)| {
                let reading = &reading;
                scope.spawn(move || (read_until_refused(h, client, fabric, &doomed_told, LEN, reading), server))
            })
            .collect();
        let stopped = stop.watch();
        let bystander = scope.spawn(move || {
            let mut into = region(fabric, 2 * LEN);
            let mut count = 0;
            while !stopped() {
                into = h.wait("a read by a bystander", read(&mut other, into, 0, slice(&kept_told, 0, 2 * LEN), count));
                assert!(into.iter().all(|byte| [0x11, 0x22].contains(byte)), "a bystander read what nobody wrote");
                count += 1;
            }
            (other, far)
        });
        h.spin("each reader to have read", || (reading.load(Ordering::Acquire) == victims.len()).then_some(()));
        doomed.revoke().unwrap_or_else(|error| panic!("cannot revoke: {error}"));
        lent.shared.write_at(0, &[0x22; 2 * LEN]).expect("it lies inside");
        for victim in victims {
            let (client, server) = victim.join().expect("a reader");
            expect_refused_ends(h, client, server);
        }
        drop(stop);
        let (mut other, mut far) = bystander.join().expect("a bystander");
        exchange(h, &mut other, &mut far, 1);
        let into = region(fabric, 2 * LEN);
        let into = h.wait("a read after all", read(&mut other, into, 0, slice(&kept_told, 0, 2 * LEN), 0));
        assert!(into.iter().all(|byte| *byte == 0x22), "a read after all does not see what was written last");
    });
}

/// Reads until an access is refused; every read that succeeds has brought 0x11 alone.
fn read_until_refused<H: MemoryHarness>(
    h: &H,
    mut client: TrackOf<H>,
    fabric: &H::Fabric,
    window: &RemoteWindow,
    len: usize,
    reading: &AtomicUsize,
) -> TrackOf<H> {
    let batch = client.fetch_slots().min(4);
    let mut spare: Vec<_> = (0..batch).map(|_| region(fabric, len)).collect();
    let mut first = true;
    loop {
        let count = queue_reads(h, &mut client, &mut spare, window, len);
        let mut refused = false;
        for tag in 0..count as u64 {
            let (region, result) = h.wait("a read", memory_of(&mut client, tag));
            match result {
                Ok(()) => {
                    assert!(!refused, "a read succeeded behind one that was refused");
                    let at = region.iter().position(|byte| *byte != 0x11);
                    assert!(at.is_none(), "a read of a window that was revoked brought other bytes, at {at:?}");
                }
                // What is behind the first fails as it may.
                Err(error) if !refused => {
                    expect_kind("a read of a window that was revoked", &error, &[ErrorKind::RemoteAccess]);
                    refused = true;
                }
                Err(_) => {}
            }
            spare.push(region);
        }
        if refused {
            assert_eq!(spare.len(), batch, "memory got lost");
            return client;
        }
        if std::mem::take(&mut first) {
            reading.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// Queues a read into each of `spare`. How many there are.
fn queue_reads<H, F>(
    h: &H,
    client: &mut F::Track,
    spare: &mut Vec<F::Region>,
    window: &RemoteWindow,
    len: usize,
) -> usize
where
    H: MemoryHarness<Fabric = F>,
    F: MemoryFabric,
{
    let count = spare.len();
    for (into, tag) in spare.drain(..).zip(0..) {
        h.wait("a permit", put_read(client, into, 0, slice(window, 0, len), tag));
    }
    client.flush().expect("a flush");
    count
}

/// Windows may be made and revoked while others of the same memory are in use, from any thread.
pub fn windows_come_and_go<H: MemoryHarness>(h: &H) {
    let Loan { pair: Pair { mut client, mut server, fabrics, .. }, lent } = loan(h, 4096, Access::ReadWrite);
    let rounds = h.many(200) as u64;
    thread::scope(|scope| {
        for _ in 0..2 {
            let shared = lent.shared.clone();
            scope.spawn(move || {
                for round in 0..rounds as usize {
                    let window = export(&shared, round..4096 - round, Access::ReadOnly);
                    match round % 2 {
                        0 => drop(window),
                        _ => window.revoke().unwrap_or_else(|error| panic!("cannot revoke: {error}")),
                    }
                }
            });
        }
        let mut region = stamped(&fabrics.client, 1, 4096);
        for id in 0..rounds {
            region = h.wait("a write", write(&mut client, region, 0, slice(&lent.remote, 0, 4096), id));
            region = h.wait("a read", read(&mut client, region, 0, slice(&lent.remote, 0, 4096), id));
            check(&region, 1, 4096);
        }
    });
    exchange(h, &mut client, &mut server, 1);
    drop(h.wait("a permit", client.write_permit()).unwrap_or_else(|error| panic!("no permit: {error}")));
    drop(lent.window);
    check(&lent.shared.reclaim().ok().expect("memory whose windows are gone"), 1, 4096);
}
