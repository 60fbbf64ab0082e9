//! Models of what the halves of a stream share: its lock, the mark of a writer that is gone, and who waits.
//!
//! Each of these fails a model: a reader that lets go of the lock without a look at the mark; a fence less on either side of
//! it; a side that finds the track ready and does not tell the other; an end that wakes nobody.

use std::future::poll_fn;

use loom::future::block_on;
use loom::thread;

use crate::error::CarrierError;
use crate::modelled::{ModelTrack, Wire, model};
use crate::stream::halves::split;
use crate::stream::link::Link;
use crate::stream::reader::Reader;
use crate::stream::{StreamConfig, StreamReadHalf, StreamWriteHalf};
use crate::wire::Kind;

fn halves(wire: &Wire) -> (StreamReadHalf<ModelTrack>, StreamWriteHalf<ModelTrack>) {
    split(Link::new(wire.opened(), StreamConfig::default()), Reader::new())
}

#[test]
fn loom_a_writer_that_is_dropped_ends_a_reader_that_waits() {
    model(2, || {
        let wire = Wire::default();
        let (mut read, write) = halves(&wire);
        let dropping = thread::spawn(move || drop(write));
        assert_eq!(block_on(read.fill()), Err(CarrierError::Closed));
        dropping.join().unwrap();
    });
}

#[test]
fn loom_a_writer_that_is_dropped_in_the_middle_of_a_call_ends_the_stream() {
    model(2, || {
        let wire = Wire::default();
        let (mut read, write) = halves(&wire);
        let dropping = thread::spawn(move || drop(write));
        // One call, and no more.
        let _ = read.try_fill();
        dropping.join().unwrap();
        assert!(read.link.is_over(), "nobody ends it any more");
    });
}

#[test]
fn loom_both_halves_wait_and_both_are_woken_by_one_arrival() {
    model(3, || {
        let wire = Wire::default();
        let (mut read, mut write) = halves(&wire);
        let reading = thread::spawn(move || {
            assert_eq!(block_on(read.fill()).unwrap(), b"both");
            read
        });
        let peer = wire.clone();
        let arriving = thread::spawn(move || peer.arrive(Kind::Bytes, 8, b"both"));
        // The bytes bring the credits that the writer waits for.
        assert_eq!(block_on(write.put(b"x")), Ok(1));
        arriving.join().unwrap();
        drop((reading.join().unwrap(), write));
    });
}

#[test]
fn loom_an_end_on_each_side_reaches_both_that_wait() {
    model(3, || {
        let wire = Wire::default();
        let (mut read, mut write) = halves(&wire);
        let reading = thread::spawn(move || {
            assert_eq!(block_on(read.fill()).unwrap(), b"");
            read
        });
        let peer = wire.clone();
        let arriving = thread::spawn(move || peer.arrive(Kind::Bye, 8, b""));
        // It waits for credits, and then there is nobody to write to.
        assert_eq!(
            block_on(poll_fn(|cx| write.poll_put(cx, &[std::io::IoSlice::new(b"x")]))),
            Err(CarrierError::Closed)
        );
        arriving.join().unwrap();
        drop((reading.join().unwrap(), write));
    });
}
