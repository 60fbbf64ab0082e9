//! No allocation for a message, once a track is set up. A binary of its own: it has a global allocator that counts.

mod common;

use allocation_counter::measure;
use common::{pair, put, queue, small, take};
use futures_executor::block_on;
use std::future::poll_fn;
use std::task::Poll;
use trespass_core::{RecvSide, RecvSideExt, SendSide, SendSideExt};

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
