//! What a message that is lent allocates: what the fabric does for a window and for memory to read it into, and nothing more.
//!
//! Allocations are counted per thread, so everything here runs on one.

mod support;

use allocation_counter::{AllocationInfo, measure};
use futures_executor::block_on;
use support::{Pair, both, pattern, small, timeless_tracks};
use trespass_carriers::{RendezvousCarrier, RendezvousConfig, RendezvousMessage};
use trespass_core::{
    Access, Completed, MemoryFabric, Region, RemoteMemory, RemoteWindow, Role, SendSide, SharedRegion, TryError, Window,
};
use trespass_mock::{MockFabric, MockRegion};

type Carrier = RendezvousCarrier<MockFabric>;

const LEN: usize = 5000;

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

fn carriers() -> Pair<Carrier, Carrier> {
    let Pair { left, right, fabrics } = timeless_tracks(small(), small());
    let config = |fabric: &MockFabric| RendezvousConfig::new(fabric.clone()).with_lend_from(1000);
    let (left, right) = both(
        RendezvousCarrier::open(left, Role::Connector, config(&fabrics[0])),
        RendezvousCarrier::open(right, Role::Acceptor, config(&fabrics[1])),
    );
    Pair { left: left.unwrap(), right: right.unwrap(), fabrics }
}

/// The same work by hand: memory is lent, read by the other end into memory of its own, and taken back.
fn by_hand() -> AllocationInfo {
    let Pair { left: _left, mut right, fabrics } = timeless_tracks(small(), small());
    let mut region = Some(fabrics[0].alloc(LEN).unwrap());
    steady(|| {
        let memory = region.take().unwrap().share();
        let window = memory.export(0..LEN, Access::ReadOnly).unwrap();
        let there = RemoteWindow::decode(&window.remote().encode()).unwrap();
        let permit = right.try_fetch_permit().unwrap();
        right.read(permit, fabrics[1].alloc(LEN).unwrap(), 0, there.slice(0, LEN).unwrap(), 0).unwrap();
        right.flush().unwrap();
        let Ok(Completed::Memory { region: read, result: Ok(()), .. }) = right.try_complete() else {
            panic!("it was read");
        };
        drop(read);
        window.revoke().unwrap();
        region = memory.reclaim().ok();
    })
}

fn message(received: Result<Option<RendezvousMessage<MockFabric>>, TryError<impl std::fmt::Debug>>) -> usize {
    let message = received.expect("it has arrived").expect("no end");
    assert!(message.was_lent() && message[LEN - 1] == 7);
    message.len()
}

#[test]
fn a_message_that_is_lent_allocates_what_its_window_does() {
    let by_hand = by_hand();
    assert!(by_hand.count_total > 0, "where a fabric allocates nothing, say so in the documents");
    let mut pair = carriers();
    let mut region = Some(filled(&pair.left));
    let polled = steady(|| {
        pair.left.try_send_region(region.take().unwrap(), 0..LEN).unwrap();
        pair.left.flush().unwrap();
        assert_eq!(message(pair.right.try_recv()), LEN);
        region = pair.left.try_returned();
    });
    assert_eq!(polled, by_hand, "polled");
    let awaited = steady(|| {
        block_on(pair.left.send_region(region.take().unwrap(), 0..LEN)).unwrap();
        assert_eq!(message(block_on(pair.right.recv()).map_err(TryError::Failed)), LEN);
        region = block_on(pair.left.returned());
    });
    assert_eq!(awaited, by_hand, "awaited");
}

fn filled(carrier: &Carrier) -> MockRegion {
    let mut region = carrier.alloc(LEN).unwrap();
    region.fill(7);
    region
}

#[test]
fn halves_allocate_nothing_beside_that() {
    let by_hand = by_hand();
    let pair = carriers();
    let mut region = Some(filled(&pair.left));
    let ((mut sender, _receiver), (_sender, mut receiver)) = (pair.left.split(), pair.right.split());
    let halved = steady(|| {
        sender.try_send_region(region.take().unwrap(), 0..LEN).unwrap();
        sender.flush().unwrap();
        assert_eq!(message(receiver.try_recv()), LEN);
        region = sender.try_returned();
    });
    assert_eq!(halved, by_hand, "polled");
    let awaited = steady(|| {
        block_on(sender.send_region(region.take().unwrap(), 0..LEN)).unwrap();
        assert_eq!(message(block_on(receiver.recv()).map_err(TryError::Failed)), LEN);
        region = block_on(sender.returned());
    });
    assert_eq!(awaited, by_hand, "awaited");
}

/// Memory of messages that are given up, and calls that would block: of no cost either.
#[test]
fn what_is_not_sent_allocates_nothing() {
    let mut pair = carriers();
    let mut region = Some(filled(&pair.left));
    let given_up = steady(|| {
        drop(pair.left.send_region(region.take().unwrap(), 0..LEN));
        region = pair.left.try_returned();
    });
    assert_eq!(given_up.count_total, 0);
    let data = pattern(1, 100);
    while pair.left.try_send(&data).is_ok() {}
    let blocked = steady(|| {
        let Err(trespass_carriers::TryRegionError::WouldBlock(back)) =
            pair.left.try_send_region(region.take().unwrap(), 0..LEN)
        else {
            panic!("there are no credits");
        };
        region = Some(back);
    });
    assert_eq!(blocked.count_total, 0);
}
