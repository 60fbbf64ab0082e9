//! What the tests of streams share.
#![allow(dead_code)] // Each test binary uses a part of it.

use futures_executor::block_on;
use trespass_carriers::{StreamCarrier, StreamConfig, StreamReadHalf, StreamWriteHalf};
use trespass_core::Role;
use trespass_mock::{MockConfig, MockTrack};

use crate::support::raw::{Greeting, HELLO, Raw, WELCOME};
use crate::support::{Error, Pair, both, timeless_tracks, tracks};

pub(crate) type Stream = StreamCarrier<MockTrack>;
pub(crate) type Read = StreamReadHalf<MockTrack>;
pub(crate) type Write = StreamWriteHalf<MockTrack>;

pub(crate) const BYTES: u8 = 64;

/// Two streams.
pub(crate) fn streams(track: MockConfig, config: StreamConfig) -> Pair<Stream, Stream> {
    open(tracks(track.clone(), track), config)
}

pub(crate) fn open(pair: Pair<MockTrack, MockTrack>, config: StreamConfig) -> Pair<Stream, Stream> {
    let Pair { left, right, fabrics } = pair;
    let (left, right) = both(
        StreamCarrier::open(left, Role::Connector, config.clone()),
        StreamCarrier::open(right, Role::Acceptor, config),
    );
    Pair { left: left.unwrap(), right: right.unwrap(), fabrics }
}

/// What an honest stream says first.
pub(crate) fn honest(kind: u8) -> Greeting {
    Greeting { carrier: 2, max_message: isize::MAX as u64, ..Greeting::honest(kind) }
}

/// A stream whose peer writes its own bytes; the handshake was honest.
pub(crate) fn opened(config: StreamConfig) -> (Stream, Raw) {
    let pair = timeless_tracks(super::small(), super::small());
    let mut raw = Raw::new(pair.left);
    assert!(raw.say(&honest(HELLO).bytes()));
    let stream = block_on(StreamCarrier::open(pair.right, Role::Acceptor, config)).unwrap();
    assert_eq!(raw.hear().unwrap()[0], WELCOME);
    (stream, raw)
}

/// Reads exactly so many bytes.
pub(crate) async fn read_exact(stream: &mut Stream, len: usize) -> Result<Vec<u8>, Error> {
    let mut read = Vec::with_capacity(len);
    while read.len() < len {
        let bytes = stream.fill().await?;
        assert!(!bytes.is_empty(), "an end after {} bytes of {len}", read.len());
        let take = bytes.len().min(len - read.len());
        read.extend_from_slice(&bytes[..take]);
        stream.consume(take);
    }
    Ok(read)
}

/// Reads to the end, or to what came in its place.
pub(crate) async fn read_all(stream: &mut Stream) -> (Vec<u8>, Result<(), Error>) {
    let mut read = Vec::new();
    loop {
        match stream.fill().await {
            Ok([]) => return (read, Ok(())),
            Err(error) => return (read, Err(error)),
            Ok(bytes) => {
                read.extend_from_slice(bytes);
                let len = bytes.len();
                stream.consume(len);
            }
        }
    }
}

/// The same, of a half.
pub(crate) async fn read_half(half: &mut Read) -> (Vec<u8>, Result<(), Error>) {
    let mut read = Vec::new();
    loop {
        match half.fill().await {
            Ok([]) => return (read, Ok(())),
            Err(error) => return (read, Err(error)),
            Ok(bytes) => {
                read.extend_from_slice(bytes);
                let len = bytes.len();
                half.consume(len);
            }
        }
    }
}
