//! What goes wrong says what, and what to do, in time.
#![cfg(feature = "verbs")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use trespass_core::{ErrorKind, Fabric, Incoming, Listener, ListenerExt, SendSide, TransportError, TryError};
use trespass_verbs::{VerbsConfig, VerbsError, VerbsFabric};

#[path = "support/rdma.rs"]
mod rdma;
use rdma::needs_rdma;

const DEADLINE: Duration = Duration::from_secs(2);

fn config() -> VerbsConfig {
    VerbsConfig::default().with_timeouts(DEADLINE, DEADLINE)
}

/// Connects, and says how that failed; within the deadline, and half of it again for a slow machine to notice.
fn refused(addr: SocketAddr) -> VerbsError {
    let (local, _) = rdma::addresses();
    let fabric = rdma::fabric(local, config());
    let begun = Instant::now();
    let error = block_on(fabric.connect(&addr)).expect_err("it cannot be connected to");
    assert!(begun.elapsed() < DEADLINE + DEADLINE / 2, "{error} after {:?}", begun.elapsed());
    eprintln!("{addr}: {error}");
    error
}

#[test]
fn nobody_listens() {
    needs_rdma!();
    let (_, ip) = rdma::addresses();
    assert_eq!(refused(SocketAddr::new(ip, 9)).kind(), ErrorKind::Refused);
}

#[test]
fn nobody_has_the_address() {
    needs_rdma!();
    let error = refused("10.9.0.77:7471".parse().expect("an address"));
    assert_eq!(error.kind(), ErrorKind::Unreachable);
}

#[test]
fn no_way_to_the_address() {
    needs_rdma!();
    let error = refused("203.0.113.1:7471".parse().expect("an address"));
    assert_eq!(error.kind(), ErrorKind::Unreachable);
}

#[test]
fn the_listener_refuses() {
    needs_rdma!();
    let (_, ip) = rdma::addresses();
    let server = rdma::fabric(ip, config());
    let mut listener = server.listen(&SocketAddr::new(ip, 0)).expect("a listener");
    let addr = listener.local();
    let client = std::thread::spawn(move || refused(addr));
    block_on(listener.incoming()).expect("a request").refuse();
    assert_eq!(client.join().expect("the client").kind(), ErrorKind::Refused);
}

#[test]
fn nobody_ever_accepts() {
    needs_rdma!();
    let (_, ip) = rdma::addresses();
    // Its own deadline is far off, so that the connecting end's is seen.
    let patient = VerbsConfig::default().with_timeouts(Duration::from_secs(60), DEADLINE);
    let server = rdma::fabric(ip, patient);
    let listener = server.listen(&SocketAddr::new(ip, 0)).expect("a listener");
    assert_eq!(refused(listener.local()).kind(), ErrorKind::TimedOut);
}

#[test]
fn a_message_over_the_limit() {
    needs_rdma!();
    let (mut track, _far) = rdma::pair(config().with_slots(1000, 8, 8));
    match track.try_reserve(1001) {
        Err(TryError::Failed(error)) => {
            assert_eq!(error, VerbsError::Oversize { len: 1001, max: 1000 });
            assert_eq!(error.kind(), ErrorKind::Oversize);
        }
        other => panic!("{other:?}"),
    }
    assert!(track.try_reserve(1000).is_ok());
}

#[test]
fn queues_that_the_device_does_not_have() {
    needs_rdma!();
    let (ip, _) = rdma::addresses();
    let error = VerbsFabric::open(VerbsConfig::default().with_local(ip).with_slots(1, 32768, 8)).expect_err("too long");
    assert_eq!(error.kind(), ErrorKind::Config);
    eprintln!("{error}");
    assert!(error.to_string().contains("send_slots"), "{error}");
}

#[test]
fn a_device_that_is_not_there() {
    needs_rdma!();
    let error = VerbsFabric::open(VerbsConfig::default().with_device("nonesuch0")).expect_err("no such device");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    eprintln!("{error}");
    assert!(error.to_string().contains("not the one asked for"), "{error}");
}

/// Only where there is none: on a machine that has RDMA the tests above run instead.
#[test]
fn no_rdma_on_this_machine() {
    let devices = std::fs::read_dir("/sys/class/infiniband").map(|devices| devices.count()).unwrap_or(0);
    if devices > 0 {
        eprintln!("SKIPPED: this machine has RDMA; scripts/test runs this one where there is none");
        return;
    }
    let error = VerbsFabric::open(VerbsConfig::default()).expect_err("there is no RDMA here");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    eprintln!("{error}");
    assert!(error.to_string().starts_with("RDMA is not available here: "), "{error}");
}

/// The child's part of `too_little_locked_memory`: nothing without its parent.
#[test]
fn child_with_little_locked_memory() {
    if std::env::var_os("TRESPASS_TEST_CHILD").is_none() {
        return;
    }
    let (ip, _) = rdma::addresses();
    let error = VerbsFabric::open(VerbsConfig::default().with_local(ip)).expect_err("64 KiB are too little");
    assert_eq!(error.kind(), ErrorKind::ResourceLimit, "{error}");
    println!("child: {error}");
}

#[test]
fn too_little_locked_memory() {
    needs_rdma!();
    if !Path::new("/sys/class/net/veth0").exists() {
        eprintln!("SKIPPED: needs a machine of its own, where it is root");
        return;
    }
    // The limit does not bind root, so the child is somebody else.
    let me = std::env::current_exe().expect("this program");
    let output = rdma::run(
        Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"])
            .args(["prlimit", "--memlock=65536"])
            .arg(me)
            .args(["--exact", "child_with_little_locked_memory", "--nocapture"])
            .env("TRESPASS_TEST_CHILD", "1"),
    );
    assert!(output.contains("child: ") && output.contains("ulimit -l"), "{output}");
}
