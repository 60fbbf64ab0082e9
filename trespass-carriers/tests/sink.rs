//! The halves of a carrier as `Sink` and `Stream`.

mod support;

use std::pin::Pin;

use bytes::Bytes;
use futures_executor::block_on;
use futures_util::{Sink, SinkExt, StreamExt};
use support::{Pair, both, carriers, join, pattern, small};
use trespass_carriers::MessageConfig;
use trespass_core::{ErrorKind, TransportError};

fn lengths() -> impl Iterator<Item = usize> {
    [0, 1, 248, 249, 5000].into_iter().cycle().take(500)
}

#[test]
fn items_arrive_whole_and_in_order_both_ways() {
    let Pair { left, right, .. } = carriers(small(), MessageConfig::default());
    let [left, right] = [left, right].map(|carrier| {
        let (sender, receiver) = carrier.split();
        let (mut sink, mut stream) = (sender.into_sink(), receiver.into_stream());
        join(
            async move {
                for (at, len) in lengths().enumerate() {
                    sink.feed(Bytes::from(pattern(at, len))).await.unwrap();
                }
                sink.close().await.unwrap();
            },
            async move {
                for (at, len) in lengths().enumerate() {
                    assert!(*stream.next().await.unwrap().unwrap() == pattern(at, len), "item {at}");
                }
                assert!(stream.next().await.is_none());
                assert!(stream.next().await.is_none());
            },
        )
    });
    both(left, right);
}

#[test]
fn an_error_is_said_once_and_is_the_end() {
    let Pair { left, right, .. } = carriers(small(), MessageConfig::default());
    drop(left);
    let mut stream = right.split().1.into_stream();
    assert_eq!(block_on(stream.next()).unwrap().unwrap_err().kind(), ErrorKind::Disconnected);
    assert!(block_on(stream.next()).is_none());
}

#[test]
fn what_is_too_long_leaves_the_sink_as_it_was() {
    let Pair { left, right, .. } = carriers(small(), MessageConfig::default().with_max_message(1000));
    let (mut sink, mut stream) = (left.split().0.into_sink(), right.split().1.into_stream());
    assert_eq!(block_on(sink.send(vec![0; 1001])).unwrap_err().kind(), ErrorKind::Oversize);
    block_on(sink.send(vec![7; 100])).unwrap();
    assert_eq!(*block_on(stream.next()).unwrap().unwrap(), [7; 100]);
}

/// A kept item that is given up arrives not at all, and what is sent after it does.
#[test]
fn one_item_is_kept_and_withdrawn_whole() {
    let Pair { left, right, .. } = carriers(small(), MessageConfig::default());
    let ((sender, _receiver), (_sender, receiver)) = (left.split(), right.split());
    let (mut sink, mut stream) = (sender.into_sink(), receiver.into_stream());
    Pin::new(&mut sink).start_send(pattern(1, 9000)).unwrap();
    let refused = Pin::new(&mut sink).start_send(pattern(2, 10));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Busy);
    let mut sender = sink.into_inner();
    both(async { sender.send(b"after").await.unwrap() }, async {
        assert_eq!(*stream.next().await.unwrap().unwrap(), *b"after");
    });
}
