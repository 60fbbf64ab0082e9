//! Streams over tracks that are watched, and over tracks that look before they sleep: nothing is asked of either.
#![cfg(feature = "mock")]

use std::thread;

use trespass::carriers::{StreamCarrier, StreamConfig};
use trespass::core::{Fabric, InOrder, Incoming, ListenerExt, Lossless, Role, Spin, ThreadFabric, Track, wait};
use trespass::layers::{Checked, Spun};
use trespass::mock::{MockConfig, MockNet};

const LEN: usize = 200_000;

/// Both directions at once, in two threads, many times all buffering; then the end.
fn exchange<T>(track: T, role: Role, coalesce: bool)
where
    T: Track<Delivery: Lossless + InOrder, RecvBuf: Send, SendBuf: Send, Timer: Send> + Send,
    <T::Timer as trespass::core::Timer>::Sleep: Send,
{
    let data: Vec<u8> = (0..LEN).map(|at| (at.wrapping_mul(31) ^ (at >> 8)) as u8).collect();
    let config = StreamConfig::default().with_coalesce(coalesce);
    let stream = wait(StreamCarrier::open(track, role, config)).expect("opened");
    let (mut read, mut write) = stream.into_split();
    let (data, other) = (&data, &mut write);
    thread::scope(|scope| {
        scope.spawn(move || {
            for chunk in data.chunks(777) {
                wait(other.put_all(chunk)).expect("written");
            }
            wait(other.finish()).expect("finished");
        });
        let mut heard = Vec::new();
        loop {
            let len = match wait(read.fill()).expect("read") {
                [] => break,
                bytes => {
                    heard.extend_from_slice(bytes);
                    bytes.len()
                }
            };
            read.consume(len);
        }
        assert!(heard == *data);
    });
}

fn run<F>(near: F, far: F)
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>> + Fabric,
    F::Addr: std::str::FromStr<Err: std::fmt::Debug>,
{
    let addr: F::Addr = "there".parse().expect("an address");
    for coalesce in [false, true] {
        let mut listener = far.listen(&addr).expect("a listener");
        thread::scope(|scope| {
            scope.spawn(|| {
                let track = wait(async { listener.incoming().await.expect("a request").accept().await });
                exchange(track.expect("accepted"), Role::Acceptor, coalesce);
            });
            exchange(wait(near.connect(&addr)).expect("connected"), Role::Connector, coalesce);
        });
    }
}

fn small() -> MockConfig {
    MockConfig::default().with_max_message(256).with_send_slots(8).with_recv_slots(8)
}

#[test]
fn over_tracks_that_are_watched() {
    let net = MockNet::new();
    let fabric = || Checked::over(net.fabric(small()).expect("a fabric"));
    run(fabric(), fabric());
}

#[test]
fn over_tracks_that_look_before_they_sleep() {
    let net = MockNet::new();
    let fabric = || Spun::over(net.fabric(small()).expect("a fabric"), Spin::default());
    run(fabric(), fabric());
}
