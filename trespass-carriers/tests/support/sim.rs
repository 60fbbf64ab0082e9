//! Two ends in a simulation, and futures that are given up there.
#![allow(dead_code)] // Each test binary uses a part of it.

use std::future::Future;

use allocation_counter::measure;
use trespass_core::{Fabric, Incoming, ListenerExt};
use trespass_mock::{MockAddr, MockConfig, MockFabric, MockPlan, MockSim, MockTimer, MockTrack, explore};

/// More than any of these futures takes.
const MOST: usize = 400;

/// What one end has.
pub(crate) struct End {
    pub(crate) fabric: MockFabric,
    pub(crate) track: MockTrack,
    pub(crate) timer: MockTimer,
}

/// Runs two ends of a track in a simulation of `seed`, and gives what they gave.
pub(crate) fn ends<A, B, FA, FB>(
    seed: u64,
    left: impl FnOnce(End) -> FA + 'static,
    right: impl FnOnce(End) -> FB + 'static,
) -> (A, B)
where
    A: 'static,
    B: 'static,
    FA: Future<Output = A> + 'static,
    FB: Future<Output = B> + 'static,
{
    let mut sim = MockSim::new(seed, MockPlan::seeded(seed, 2));
    let config = MockConfig::default().with_max_message(256).with_send_slots(6).with_recv_slots(8);
    let [connector, acceptor] = [(); 2].map(|()| sim.net().fabric(config.clone()).unwrap());
    let there: MockAddr = "there".parse().unwrap();
    let mut listener = acceptor.listen(&there).unwrap();
    let timer = sim.timer();
    let left = sim.spawn("left", async move {
        let track = connector.connect(&there).await.unwrap();
        left(End { fabric: connector, track, timer }).await
    });
    let timer = sim.timer();
    let right = sim.spawn("right", async move {
        let track = listener.incoming().await.unwrap().accept().await.unwrap();
        right(End { fabric: acceptor, track, timer }).await
    });
    if let Err(failure) = sim.run() {
        panic!("{failure}");
    }
    left.output().zip(right.output()).expect("both ends are done")
}

/// Tries `scene` with each number of polls until one is enough, for some seeds; it says whether it was. What it took is all
/// given back, to the byte.
pub(crate) fn at_every_poll(scene: impl Fn(u64, usize) -> bool + Sync) {
    explore(40, |seed| {
        let tried = |most: &usize| {
            let mut enough = false;
            let used = measure(|| enough = scene(seed, *most));
            assert_eq!(used.bytes_current, 0, "leaked, after {most} polls");
            enough
        };
        let enough = (0..MOST).find(tried);
        enough.map(|_| ()).ok_or("it takes more polls than were thought possible")
    });
}
