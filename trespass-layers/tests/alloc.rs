//! No allocation for a message under a layer, once a track is set up. A binary of its own: it has a global allocator
//! that counts.

use allocation_counter::measure;
use futures_executor::block_on;
use std::task::{Context, Waker};
use trespass_core::{Fabric, Incoming, ListenerExt, Track};
use trespass_layers::{Checked, Either, Lossy, Metered, lossy::LossyConfig};
use trespass_mock::{MockAddr, MockConfig, MockFabric, MockNet};

fn mock() -> MockFabric {
    let config = MockConfig::default().with_max_message(256).with_send_slots(8).with_recv_slots(8);
    MockNet::new().fabric(config).expect("a good configuration")
}

fn pair<F: Fabric>(fabric: &F, at: &F::Addr) -> (F::Track, F::Track) {
    let mut listener = fabric.listen(at).expect("a listener");
    let connecting = fabric.connect(at);
    block_on(async {
        let ours = listener.incoming().await.expect("a request").accept().await.expect("an accept");
        (connecting.await.expect("a connect"), ours)
    })
}

/// Messages one at a time and in batches, stalls, waits, buffers that are dropped unsent.
fn traffic<T: Track>(client: &mut T, server: &mut T, held: &mut Vec<T::RecvBuf>) {
    let mut cx = Context::from_waker(Waker::noop());
    for id in 0..50_u8 {
        assert!(server.poll_recv_ready(&mut cx).is_pending(), "nothing was sent");
        while let Ok(mut buf) = client.try_reserve(5) {
            buf.fill(id);
            client.send(buf).expect("a slot was paid for");
        }
        assert!(client.poll_send_ready(&mut cx).is_ready(), "the receiver has room");
        drop(client.try_reserve(9));
        while let Ok(buf) = server.try_recv() {
            assert_eq!(*buf, [id; 5]);
            held.push(buf);
        }
        assert_eq!(held.len(), 8, "the receiver holds all that it has");
        held.clear();
    }
}

fn allocates_nothing<F: Fabric>(fabric: &F, at: &F::Addr) {
    let (mut client, mut server) = pair(fabric, at);
    let mut held = Vec::with_capacity(8);
    let info = measure(|| {
        traffic(&mut client, &mut server, &mut held);
        traffic(&mut server, &mut client, &mut held);
    });
    assert_eq!(info.count_total, 0, "{info:?}");
}

fn there() -> MockAddr {
    "there".parse().expect("an address")
}

#[test]
fn a_checked_message_allocates_nothing() {
    allocates_nothing(&Checked::over(mock()), &there());
}

#[test]
fn a_counted_message_allocates_nothing() {
    allocates_nothing(&Metered::over(mock()), &there());
}

#[test]
fn a_message_of_either_side_allocates_nothing() {
    type Chosen = Either<MockFabric, Metered<MockFabric>>;
    allocates_nothing::<Chosen>(&Either::Left(mock()), &Either::Left(there()));
    allocates_nothing::<Chosen>(&Either::Right(Metered::over(mock())), &Either::Right(there()));
}

#[test]
fn a_datagram_that_is_not_held_back_allocates_nothing() {
    allocates_nothing(&Lossy::over(mock(), LossyConfig::new(1)), &there());
}

/// Without `debug_assertions` nothing is left of the check.
#[cfg(not(debug_assertions))]
#[test]
fn a_check_that_is_off_takes_no_room() {
    use std::mem::size_of;
    use trespass_core::{RecvSide, SendSide};
    type Below = <MockFabric as Fabric>::Track;
    type Above = <Checked<MockFabric> as Fabric>::Track;
    assert_eq!(size_of::<Above>(), size_of::<Below>());
    assert_eq!(size_of::<<Above as SendSide>::SendBuf>(), size_of::<<Below as SendSide>::SendBuf>());
    assert_eq!(size_of::<<Above as RecvSide>::RecvBuf>(), size_of::<<Below as RecvSide>::RecvBuf>());
}
