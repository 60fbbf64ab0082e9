//! The same operations, made of a seed, give the same to see in process and on a device.
#![cfg(all(feature = "verbs", feature = "mock"))]

use std::net::SocketAddr;
use std::time::Duration;

use trespass_core::{InOrder, Lossless, Track};
use trespass_mock::{MockConfig, MockNet, MockTrack};
use trespass_verbs::{ReliableTrack, VerbsConfig, VerbsFabric};

#[path = "support/differential.rs"]
mod differential;
#[path = "support/rdma.rs"]
mod rdma;
use differential::{MAX_MESSAGE, RECV_SLOTS, SEND_SLOTS, of_carriers, of_tracks, tracks};
use rdma::needs_rdma;

/// How many sequences of each sort.
const SEQUENCES: u64 = 60;

fn in_process() -> [MockTrack; 2] {
    let config = MockConfig::default().with_max_message(MAX_MESSAGE);
    let config = config.with_send_slots(SEND_SLOTS).with_recv_slots(RECV_SLOTS);
    let net = MockNet::new();
    let [client, server] = [(); 2].map(|()| net.fabric(config.clone()).expect("a good configuration"));
    tracks(&client, &server, &"server".parse().expect("an address"))
}

struct Devices {
    client: VerbsFabric,
    server: VerbsFabric,
}

impl Devices {
    fn open() -> Self {
        let (client, server) = rdma::addresses();
        let timeout = Duration::from_secs(20);
        let config =
            || VerbsConfig::default().with_slots(MAX_MESSAGE, SEND_SLOTS, RECV_SLOTS).with_timeouts(timeout, timeout);
        Self { client: rdma::fabric(client, config()), server: rdma::fabric(server, config()) }
    }

    fn tracks(&self) -> [ReliableTrack; 2] {
        tracks(&self.client, &self.server, &SocketAddr::new(rdma::addresses().1, 0))
    }
}

fn compare(what: &str, mock: impl Fn(u64) -> Vec<String>, verbs: impl Fn(u64) -> Vec<String>) {
    let only = std::env::var("TRESPASS_SEED").ok().map(|seed| seed.parse::<u64>().expect("TRESPASS_SEED: a number"));
    let seeds = only.map_or(0..SEQUENCES, |seed| seed..seed + 1);
    let mut lines = 0;
    for seed in seeds {
        let (mock, verbs) = (mock(seed), verbs(seed));
        let differs = mock.iter().zip(&verbs).position(|(mock, verbs)| mock != verbs);
        let at = differs.unwrap_or(mock.len().min(verbs.len()));
        assert!(
            mock == verbs,
            "TRESPASS_SEED={seed}: {what} differ at line {at}: {:?} in process, {:?} on the device, after {:#?}",
            mock.get(at),
            verbs.get(at),
            &mock[..at]
        );
        lines += mock.len();
    }
    println!("{lines} lines of {what} were the same");
}

/// That a comparison can fail.
#[test]
fn another_sequence_is_another_outcome() {
    let run = |seed| of_tracks(in_process(), seed);
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
    let run = |seed| of_carriers(in_process(), seed);
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

fn all<T: Track<Delivery: Lossless + InOrder>>(
    of: fn([T; 2], u64) -> Vec<String>,
    tracks: impl Fn() -> [T; 2],
) -> impl Fn(u64) -> Vec<String> {
    move |seed| of(tracks(), seed)
}

#[test]
fn tracks_do_the_same() {
    needs_rdma!();
    let devices = Devices::open();
    compare("tracks", all(of_tracks, in_process), all(of_tracks, || devices.tracks()));
}

#[test]
fn carriers_do_the_same() {
    needs_rdma!();
    let devices = Devices::open();
    compare("carriers", all(of_carriers, in_process), all(of_carriers, || devices.tracks()));
}
