//! Both ends write more than all buffering before either reads, and get through: on real verbs, a thread for each task,
//! on links as they are and on slow ones. See `support/deadlock`.
#![cfg(feature = "verbs")]

#[path = "support/deadlock/mod.rs"]
mod deadlock;
#[path = "support/netem.rs"]
mod netem;
#[path = "support/rdma.rs"]
mod rdma;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use deadlock::{End, Gate, Stage, Task, all_ways};
use futures_util::future::join;
use netem::Spoilt;
use rdma::needs_rdma;
use trespass_core::{Incoming, Listener, ListenerExt, Role, ThreadFabric, wait, wait_within};
use trespass_verbs::{DatagramConfig, VerbsConfig, VerbsDatagrams, VerbsFabric};

/// Longer than anything here takes, on a machine that is emulated and on slow links.
const PATIENCE: Duration = Duration::from_secs(120);

/// A thread for each task; a hang is a failure after so long.
struct Threads;

fn fabrics() -> [VerbsFabric; 2] {
    let (near, far) = rdma::addresses();
    // Small enough that everything fills up.
    [near, far].map(|ip| rdma::fabric(ip, VerbsConfig::default().with_slots(1024, 8, 8)))
}

fn stage<F, R>([near, far]: [F; 2], name: &str, way: impl Fn(End<F>) -> R)
where
    F: ThreadFabric<Addr = SocketAddr>,
    R: Future<Output = Vec<Task>> + Send + 'static,
{
    let begun = Instant::now();
    let mut listener = far.listen(&SocketAddr::new(rdma::addresses().1, 0)).expect("a listener");
    let connecting = near.connect(&listener.local());
    let (connected, accepted) = wait(join(connecting, async { listener.incoming().await?.accept().await }));
    let tracks = [connected.expect("connected"), accepted.expect("accepted")];
    let full = Gate::of(2);
    thread::scope(|scope| {
        for ((fabric, track), role) in [near, far].into_iter().zip(tracks).zip([Role::Connector, Role::Acceptor]) {
            let opening = way(End { fabric, track, role, full: full.clone(), rest: Duration::ZERO });
            scope.spawn(move || {
                let hang = format!("{name}: a hang of {role:?}: not done after {PATIENCE:?}");
                let tasks = wait_within(PATIENCE, opening).expect(&hang);
                for task in tasks {
                    let hang = hang.clone();
                    scope.spawn(move || wait_within(PATIENCE, task).expect(&hang));
                }
            });
        }
    });
    eprintln!("{name}: {:.1?}", begun.elapsed());
}

impl Stage for Threads {
    type Fabric = VerbsFabric;
    type Datagrams = VerbsDatagrams;

    fn run<R>(&self, name: &str, way: impl Fn(End<VerbsFabric>) -> R)
    where
        R: Future<Output = Vec<Task>> + Send + 'static,
    {
        stage(fabrics(), name, way);
    }

    fn run_datagrams<R>(&self, name: &str, way: impl Fn(End<VerbsDatagrams>) -> R)
    where
        R: Future<Output = Vec<Task>> + Send + 'static,
    {
        let config = DatagramConfig::default().with_slots(8, 8);
        stage(fabrics().map(|fabric| fabric.datagrams(config.clone()).expect("datagrams")), name, way);
    }
}

/// There is one network: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn on_links_as_they_are() {
    needs_rdma!();
    let _alone = alone();
    all_ways(&Threads);
}

fn on_slow_links(delay: &str) {
    let _alone = alone();
    if let Some(why) = netem::foreign() {
        return eprintln!("SKIPPED: {why}");
    }
    let _slow = Spoilt::links(&format!("delay {delay}"));
    all_ways(&Threads);
}

#[test]
fn with_a_millisecond() {
    needs_rdma!();
    on_slow_links("1ms");
}

#[test]
fn with_twenty_milliseconds() {
    needs_rdma!();
    on_slow_links("20ms");
}
