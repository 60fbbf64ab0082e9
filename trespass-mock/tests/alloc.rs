//! No allocation for a message, once a track is set up. A binary of its own: it has a global allocator that counts.

mod common;

use allocation_counter::measure;
use common::{join, pair, put, queue, small, take};
use futures_executor::block_on;
use std::future::poll_fn;
use std::task::Poll;
use trespass_core::{
    Access, Completed, MemoryFabric, RecvSide, RecvSideExt, Region, RemoteMemory, SendSide, SendSideExt, SharedRegion,
    Window,
};
use trespass_mock::{MockError, MockNet, MockRegion};

#[test]
fn a_message_allocates_nothing() {
    let (mut client, mut server) = pair(small());
    let round = |client: &mut _, server: &mut _| {
        for id in 0..100_u8 {
            put(client, &[id]);
            assert_eq!(*take(server), [id]);
        }
    };
    let info = measure(|| round(&mut client, &mut server));
    assert_eq!(info.count_total, 0, "the first messages of a track: {info:?}");
    let info = measure(|| round(&mut server, &mut client));
    assert_eq!(info.count_total, 0, "{info:?}");
}

#[test]
fn stalls_and_batches_allocate_nothing() {
    let (mut client, mut server) = pair(small());
    let mut held = Vec::with_capacity(8);
    let mut kept = Vec::with_capacity(8);
    let info = measure(|| {
        for _ in 0..50 {
            // More than the receiver has room for, in batches; then everything is let go in another order.
            while queue(&mut client, b"filled") {}
            client.flush().unwrap();
            while let Ok(buf) = server.try_recv() {
                held.push(buf);
                while queue(&mut client, b"filled") {}
                client.flush().unwrap();
            }
            assert_eq!(held.len(), 8);
            while let Some(buf) = (!held.is_empty()).then(|| held.swap_remove(held.len() / 2)) {
                drop(buf);
            }
            while server.try_recv().is_ok() {}
            while let Ok(buf) = client.try_reserve(9) {
                kept.push(buf);
            }
            kept.clear();
        }
    });
    assert_eq!(info.count_total, 0, "{info:?}");
}

#[test]
fn waiting_allocates_nothing() {
    let (mut client, mut server) = pair(small());
    block_on(async {
        // The executor's own are not the mock's: measured inside of one poll.
        poll_fn(|cx| {
            let info = measure(|| {
                for id in 0..100_u8 {
                    assert!(server.poll_recv_ready(cx).is_pending());
                    assert!(client.poll_send_ready(cx).is_ready());
                    put(&mut client, &[id]);
                    assert!(server.poll_recv_ready(cx).is_ready());
                    assert_eq!(*take(&mut server), [id]);
                }
            });
            assert_eq!(info.count_total, 0, "{info:?}");
            Poll::Ready(())
        })
        .await;
        let info = measure(|| {
            for _ in 0..100 {
                drop((client.reserve(1), server.recv()));
            }
        });
        assert_eq!(info.count_total, 0, "{info:?}");
    });
}

#[test]
fn an_operation_allocates_nothing_once_warm() {
    let fabric = MockNet::new().fabric(small()).unwrap();
    let (mut client, _server) = join(&fabric, &fabric);
    let shared = fabric.alloc(64).unwrap().share();
    let lent = shared.export(0..64, Access::ReadWrite).unwrap();
    let window = lent.remote();
    let mut region = Some(fabric.alloc(64).unwrap());
    let mut round = || {
        let (all, word) = (window.slice(0, 64).unwrap(), window.word(8).unwrap());
        let permit = client.try_write_permit().unwrap();
        client.write(permit, region.take().unwrap(), 0, all, 1).map_err(|unsent| unsent.error).unwrap();
        client.flush().unwrap();
        region = memory_of(client.try_complete().unwrap());
        let permit = client.try_fetch_permit().unwrap();
        client.read(permit, region.take().unwrap(), 0, all, 2).map_err(|unsent| unsent.error).unwrap();
        let permit = client.try_fetch_permit().unwrap();
        client.fetch_add(permit, word, 1, 3).map_err(|unsent| unsent.error).unwrap();
        client.flush().unwrap();
        region = memory_of(client.try_complete().unwrap());
        assert!(memory_of(client.try_complete().unwrap()).is_none());
    };
    round();
    let info = measure(|| (0..50).for_each(|_| round()));
    assert_eq!(info.count_total, 0, "{info:?}");
}

fn memory_of(completed: Completed<MockRegion, MockError>) -> Option<MockRegion> {
    match completed {
        Completed::Memory { region, .. } => Some(region),
        _ => None,
    }
}
