//! Messages of every size, whole, in order and once (K2).

mod support;

use std::future::poll_fn;

use futures_executor::block_on;
use support::{both, carriers, pattern, small};
use trespass_carriers::MessageConfig;
use trespass_core::{ErrorKind, TransportError, TryError};

#[test]
fn every_size_arrives_whole_and_in_order() {
    let max = 5000;
    let mut pair = carriers(small(), MessageConfig::default().with_max_message(max));
    let eager = pair.left.eager_limit();
    assert_eq!((eager, pair.left.max_message()), (256, max));
    // A First carries 240 bytes, a More 248.
    let sizes = [0, 1, 2, 63, 64, eager - 1, eager, eager + 1, 487, 488, 489, 1000, 240 + 248 * 3, max - 1, max, 0];
    let (sent, received) = both(
        async {
            for (seed, &len) in sizes.iter().enumerate() {
                pair.left.send(&pattern(seed, len)).await?;
            }
            pair.left.finish().await
        },
        async {
            let mut received = Vec::new();
            while let Some(message) = pair.right.recv().await.unwrap() {
                received.push(message.to_vec());
            }
            received
        },
    );
    sent.unwrap();
    let expected: Vec<_> = sizes.iter().enumerate().map(|(seed, &len)| pattern(seed, len)).collect();
    assert!(received == expected);
    assert_eq!(pair.rnr(), 0);
    let stats = pair.left.stats();
    assert_eq!((stats.messages_sent, stats.bytes_sent), (sizes.len() as u64, sizes.iter().sum::<usize>() as u64));
    let stats = pair.right.stats();
    assert_eq!(
        (stats.messages_received, stats.bytes_received),
        (sizes.len() as u64, sizes.iter().sum::<usize>() as u64)
    );
}

#[test]
fn one_above_the_limit_is_refused_before_anything_is_sent() {
    let mut pair = carriers(small(), MessageConfig::default().with_max_message(1000));
    let error = block_on(pair.left.send(&[0; 1001])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Oversize);
    let error = pair.left.try_send(&[0; 257]).unwrap_err();
    assert_eq!(error.failed().map(|error| error.kind()), Some(ErrorKind::Oversize));
    assert!(matches!(pair.right.try_recv(), Err(TryError::WouldBlock)));
    // The carrier lives on.
    let (sent, received) = both(pair.left.send(&[7; 1000]), pair.right.recv());
    sent.unwrap();
    assert_eq!(&*received.unwrap().unwrap(), &[7; 1000]);
}

#[test]
fn a_message_filled_in_place_is_not_copied() {
    let mut pair = carriers(small(), MessageConfig::default());
    let mut buf = pair.left.try_reserve(5).unwrap();
    buf.copy_from_slice(b"hello");
    buf.truncate(4);
    pair.left.send_buf(buf).unwrap();
    assert!(matches!(pair.right.try_recv(), Err(TryError::WouldBlock)), "nothing goes out before a flush");
    pair.left.flush().unwrap();
    let message = pair.right.try_recv().unwrap().unwrap();
    assert!(message.is_direct());
    assert_eq!(&*message, b"hell");
}

#[test]
fn a_flush_rings_one_doorbell_for_many_messages() {
    let mut pair = carriers(small().with_send_slots(64).with_recv_slots(64), MessageConfig::default());
    let before = pair.fabrics[0].counters();
    for _ in 0..10 {
        pair.left.try_send(b"one of many").unwrap();
    }
    pair.left.flush().unwrap();
    let counted = pair.fabrics[0].counters().since(before);
    assert_eq!((counted.doorbells, counted.sends, counted.arms), (1, 10, 0));
}

#[test]
fn more_may_be_reserved_than_there_are_credits() {
    let mut pair = carriers(small().with_send_slots(32), MessageConfig::default());
    let bufs: Vec<_> = (0..20).map(|_| pair.left.try_reserve(1).unwrap()).collect();
    for (seed, mut buf) in bufs.into_iter().enumerate() {
        buf[0] = seed as u8;
        pair.left.send_buf(buf).unwrap();
    }
    let (finished, received) = both(pair.left.finish(), async {
        let mut received = Vec::new();
        while let Some(message) = pair.right.recv().await.unwrap() {
            received.push(message[0]);
        }
        received
    });
    finished.unwrap();
    assert_eq!(received, (0..20).collect::<Vec<u8>>());
    assert_eq!(pair.rnr(), 0);
}

#[test]
fn a_buffer_of_another_carrier_comes_back_untouched() {
    let mut pair = carriers(small(), MessageConfig::default());
    let mut buf = pair.left.try_reserve(3).unwrap();
    buf.copy_from_slice(b"abc");
    let unsent = pair.right.send_buf(buf).unwrap_err();
    assert_eq!(unsent.error.kind(), ErrorKind::ForeignBuffer);
    assert_eq!(&*unsent.buf, b"abc");
    pair.left.send_buf(unsent.buf).unwrap();
    pair.left.flush().unwrap();
    assert_eq!(&*block_on(pair.right.recv()).unwrap().unwrap(), b"abc");
}

#[test]
fn readiness_is_kept() {
    let mut pair = carriers(small(), MessageConfig::default());
    let (_, message) = both(
        async {
            poll_fn(|cx| pair.left.poll_send_ready(cx)).await;
            pair.left.try_send(b"ready").unwrap();
            pair.left.flush().unwrap();
        },
        async {
            poll_fn(|cx| pair.right.poll_recv_ready(cx)).await;
            poll_fn(|cx| pair.right.poll_recv_ready(cx)).await;
            pair.right.try_recv().unwrap().unwrap()
        },
    );
    assert_eq!(&*message, b"ready");
}

#[test]
fn a_message_outlives_everything_and_becomes_bytes() {
    let mut pair = carriers(small(), MessageConfig::default());
    let (sent, (whole, long)) = both(
        async {
            pair.left.send(b"short").await?;
            pair.left.send(&pattern(1, 3000)).await
        },
        async { (pair.right.recv().await.unwrap().unwrap(), pair.right.recv().await.unwrap().unwrap()) },
    );
    sent.unwrap();
    assert!(whole.is_direct() && !long.is_direct());
    drop(pair);
    let (whole, long) = (bytes::Bytes::from_owner(whole), bytes::Bytes::from_owner(long));
    std::thread::spawn(move || {
        assert_eq!(&whole[..], b"short");
        assert_eq!(&long[..], pattern(1, 3000));
    })
    .join()
    .unwrap();
}

#[test]
fn a_carrier_may_be_used_from_any_thread() {
    use static_assertions::assert_impl_all;
    use trespass_carriers::{Message, MessageBuf, MessageOpening, Sending};
    use trespass_mock::MockTrack;

    assert_impl_all!(support::Carrier: Send);
    assert_impl_all!(Message<MockTrack>: Send, Sync, AsRef<[u8]>);
    assert_impl_all!(MessageBuf<MockTrack>: Send);
    assert_impl_all!(MessageOpening<MockTrack>: Send, Unpin);
    assert_impl_all!(Sending<'static, MockTrack>: Send, Unpin);
}
