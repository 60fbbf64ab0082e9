//! Streams by the traits of tokio and of futures-io.
#![cfg(all(feature = "tokio", feature = "futures-io"))]

#[path = "support/streams.rs"]
mod streams;
mod support;

use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::time::Duration;

use futures_executor::block_on;
use streams::{Stream, streams};
use support::{Pair, pattern, small};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::time::timeout;
use trespass_carriers::{CarrierError, StreamConfig};
use trespass_mock::MockError;

type Error = CarrierError<MockError>;

fn runtimes() -> [tokio::runtime::Runtime; 2] {
    let mut one = tokio::runtime::Builder::new_current_thread();
    let mut many = tokio::runtime::Builder::new_multi_thread();
    [one.enable_time().build().unwrap(), many.worker_threads(3).enable_time().build().unwrap()]
}

fn pair() -> (Stream, Stream) {
    let Pair { left, right, .. } = streams(small(), StreamConfig::default());
    (left, right)
}

/// What must not take for ever.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), work).await.expect("a deadlock")
}

#[test]
fn the_traits_of_tokio_do_what_they_say() {
    let (mut left, mut right) = pair();
    block_on(async {
        left.write_all(b"first line\nrest").await.unwrap();
        left.flush().await.unwrap();
        assert!(left.is_write_vectored());
        assert_eq!(left.write_vectored(&[IoSlice::new(b" and "), IoSlice::new(b"more")]).await.unwrap(), 9);
        let mut line = String::new();
        assert_eq!(right.read_line(&mut line).await.unwrap(), 11);
        assert_eq!(line, "first line\n");
        let mut some = [0; 2];
        right.read_exact(&mut some).await.unwrap();
        assert_eq!(&some, b"re");
        assert_eq!(right.read(&mut []).await.unwrap(), 0, "no room is no end");
        left.shutdown().await.unwrap();
        left.shutdown().await.unwrap();
        let mut rest = Vec::new();
        right.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"st and more");
        assert_eq!(left.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn the_traits_of_futures_io_do_what_they_say() {
    use futures_util::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
    let (mut left, mut right) = pair();
    block_on(async {
        AsyncWriteExt::write_all(&mut left, b"first line\nrest").await.unwrap();
        AsyncWriteExt::flush(&mut left).await.unwrap();
        assert_eq!(
            AsyncWriteExt::write_vectored(&mut left, &[IoSlice::new(b"1"), IoSlice::new(b"23")]).await.unwrap(),
            3
        );
        let mut line = String::new();
        assert_eq!(AsyncBufReadExt::read_line(&mut right, &mut line).await.unwrap(), 11);
        let (mut one, mut two, mut three) = ([0; 3], [0; 0], [0; 10]);
        let pieces = &mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two), IoSliceMut::new(&mut three)];
        assert_eq!(AsyncReadExt::read_vectored(&mut right, pieces).await.unwrap(), 7, "two frames at once");
        assert_eq!((&one, &three[..4]), (b"res", &b"t123"[..]));
        assert_eq!(AsyncReadExt::read(&mut right, &mut []).await.unwrap(), 0);
        AsyncWriteExt::close(&mut left).await.unwrap();
        let mut rest = Vec::new();
        assert_eq!(AsyncReadExt::read_to_end(&mut right, &mut rest).await.unwrap(), 0);
    });
}

#[test]
fn an_error_is_of_a_fitting_kind_and_has_its_cause() {
    let pair = streams(small(), StreamConfig::default());
    let mut right = pair.right;
    block_on(async {
        let mut left = pair.left;
        left.write_all(b"before").await.unwrap();
        pair.fabrics[0].kill();
        let mut heard = Vec::new();
        let error = right.read_to_end(&mut heard).await.unwrap_err();
        assert_eq!((heard, error.kind()), (b"before".to_vec(), ErrorKind::ConnectionReset));
        let source = error.into_inner().unwrap().downcast::<Error>().unwrap();
        assert_eq!(*source, CarrierError::Disconnected);
    });
}

/// A client, a relay that copies both ways, and a server that says everything again: each writes many times all buffering.
#[test]
fn copy_bidirectional_relays_more_than_all_buffering_and_both_ends() {
    for runtime in runtimes() {
        runtime.block_on(soon(async {
            let ((mut client, mut near), (mut far, server)) = (pair(), pair());
            let relay = tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
            let echo = tokio::spawn(async move {
                let (mut read, mut write) = server.into_split();
                tokio::io::copy_buf(&mut read, &mut write).await.unwrap();
                write.shutdown().await.unwrap();
            });
            let data = pattern(3, 400_000);
            let (mut read, mut write) = tokio::io::split(&mut client);
            let mut heard = Vec::new();
            let (sent, got) = tokio::join!(
                async {
                    write.write_all(&data).await?;
                    write.shutdown().await
                },
                read.read_to_end(&mut heard)
            );
            sent.unwrap();
            got.unwrap();
            assert!(heard == data);
            assert_eq!(relay.await.unwrap().unwrap(), (400_000, 400_000));
            echo.await.unwrap();
        }));
    }
}

/// One end goes on long after the other has said its last.
#[test]
fn half_closed_streams_go_on() {
    for runtime in runtimes() {
        runtime.block_on(soon(async {
            let (client, server) = pair();
            let serving = tokio::spawn(async move {
                let (mut read, mut write) = server.into_split();
                let mut question = Vec::new();
                read.read_to_end(&mut question).await.unwrap();
                drop(read);
                for _ in 0..200 {
                    write.write_all(&question).await.unwrap();
                }
                write.shutdown().await.unwrap();
            });
            let (mut read, mut write) = client.into_split();
            write.write_all(&pattern(1, 1000)).await.unwrap();
            write.shutdown().await.unwrap();
            drop(write);
            let mut answer = Vec::new();
            read.read_to_end(&mut answer).await.unwrap();
            assert!(answer == pattern(1, 1000).repeat(200));
            serving.await.unwrap();
        }));
    }
}

/// A reader that waits for the peer's next word gets it though nobody flushes; many tasks, small writes.
#[test]
fn small_writes_ping_and_pong_without_a_flush() {
    for runtime in runtimes() {
        runtime.block_on(soon(async {
            let (mut left, mut right) = pair();
            let other = tokio::spawn(async move {
                for at in 0..2000_u32 {
                    assert_eq!(right.read_u32().await.unwrap(), at);
                    right.write_u32(at + 1).await.unwrap();
                }
                right
            });
            for at in 0..2000_u32 {
                left.write_u32(at).await.unwrap();
                assert_eq!(left.read_u32().await.unwrap(), at + 1);
            }
            drop(other.await.unwrap());
        }));
    }
}

/// The writer that forgets to flush, and waits for something else, has been heard all the same.
#[test]
fn who_forgets_to_flush_keeps_nobody_waiting() {
    let [runtime, _] = runtimes();
    runtime.block_on(soon(async {
        let (mut left, mut right) = pair();
        let forgetful = async {
            left.write_all(b"said, not flushed").await.unwrap();
            // Not the stream is what it waits for.
            std::future::pending::<()>().await;
        };
        let mut heard = [0; 17];
        tokio::select! {
            () = forgetful => unreachable!(),
            read = right.read_exact(&mut heard) => read.unwrap(),
        };
        assert_eq!(&heard, b"said, not flushed");
    }));
}

#[test]
fn both_ends_shut_down_and_drop_in_any_order() {
    for runtime in runtimes() {
        for order in 0..4 {
            runtime.block_on(soon(async {
                let (mut left, mut right) = pair();
                left.write_all(b"x").await.unwrap();
                right.write_all(b"y").await.unwrap();
                if order & 1 == 0 {
                    std::mem::swap(&mut left, &mut right);
                }
                left.shutdown().await.unwrap();
                if order & 2 == 0 {
                    drop(left);
                }
                let mut heard = Vec::new();
                right.read_to_end(&mut heard).await.unwrap();
                assert_eq!(heard.len(), 1);
                right.shutdown().await.unwrap();
            }));
        }
    }
}
