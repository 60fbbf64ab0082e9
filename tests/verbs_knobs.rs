//! The settings of the network do what they say, and errors know of the link.
#![cfg(feature = "verbs")]

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_executor::block_on;
use trespass_core::{
    Endpoint, ErrorKind, Fabric, Incoming, Listener, ListenerExt, RecvSideExt, SendSide, SendSideExt, TransportError,
};
use trespass_verbs::survey::{Details, Gid, LinkLayer, PortState};
use trespass_verbs::{ReliableTrack, VerbsConfig, VerbsError, VerbsFabric, survey};

#[path = "support/rdma.rs"]
mod rdma;
use rdma::needs_rdma;

const DEADLINE: Duration = Duration::from_secs(20);

/// Packets are counted for all, and there is one network: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn config() -> VerbsConfig {
    VerbsConfig::default()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not come within {DEADLINE:?}");
        std::thread::yield_now();
    }
}

/// What the device that has the first address says of itself, and its name.
fn device() -> (String, Details) {
    let survey = survey(&config().with_local(rdma::addresses().0));
    let name = survey.choice.expect("the device of the address").device;
    let device = survey.devices.expect("devices").into_iter().find(|device| device.name == name).expect("the device");
    (name, device.details.expect("what it says"))
}

/// The GIDs of its active ports.
fn gids() -> Vec<Gid> {
    device().1.ports.into_iter().filter(|port| port.state == PortState::Active).flat_map(|port| port.gids).collect()
}

/// A track between two fabrics of different settings.
fn pair_of(near: VerbsConfig, far: VerbsConfig) -> (ReliableTrack, ReliableTrack) {
    let (client, server) = rdma::addresses();
    let server_fabric = rdma::fabric(server, far);
    let listener = server_fabric.listen(&SocketAddr::new(server, 0)).expect("a listener");
    join(&rdma::fabric(client, near), listener)
}

fn join(
    client: &VerbsFabric,
    mut listener: impl Listener<Addr = SocketAddr, Track = ReliableTrack>,
) -> (ReliableTrack, ReliableTrack) {
    let connecting = client.connect(&listener.local());
    block_on(async {
        let incoming = listener.incoming().await.unwrap_or_else(|error| panic!("{error}"));
        let accepted = incoming.accept().await.unwrap_or_else(|error| panic!("accept: {error}"));
        (connecting.await.unwrap_or_else(|error| panic!("connect: {error}")), accepted)
    })
}

/// `count` messages of `len` bytes, each answered by one byte before the next.
fn talk(near: &mut ReliableTrack, far: &mut ReliableTrack, count: u32, len: usize) {
    block_on(async {
        for index in 0..count {
            let mut buf = near.reserve(len).await.expect("a slot");
            buf.fill(index as u8);
            near.send(buf).expect("sent");
            near.flush().expect("flushed");
            let message = far.recv().await.expect("a message");
            assert_eq!((message.len(), message[len - 1]), (len, index as u8));
            drop(message);
            let answer = far.reserve(1).await.expect("a slot");
            far.send(answer).expect("sent");
            far.flush().expect("flushed");
            near.recv().await.expect("an answer");
        }
    });
}

fn refused(config: VerbsConfig) -> String {
    let error = VerbsFabric::open(config.with_local(rdma::addresses().0)).expect_err("it has to be refused");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    eprintln!("{error}");
    error.to_string()
}

/// Packets that the device has sent, where it counts them in the way of soft-RoCE, and where we may ask for the number of
/// now: the kernel shows one that is some milliseconds old otherwise. Nothing may be under way.
fn sent_packets(device: &str) -> Option<u64> {
    let counters = format!("/sys/class/infiniband/{device}/ports/1/hw_counters");
    std::fs::write(format!("{counters}/lifespan"), "0").ok()?;
    // Even then it shows what it showed before within the same tick of its clock, of which there are 100 a second at least, and
    // twenty messages may take less than one.
    std::thread::sleep(Duration::from_millis(11));
    std::fs::read_to_string(format!("{counters}/sent_pkts")).ok()?.trim().parse().ok()
}

#[test]
fn a_path_mtu_sets_how_many_packets_a_message_takes() {
    needs_rdma!();
    let _alone = alone();
    let (name, details) = device();
    let active = details.ports[0].active_mtu;
    let (count, len) = (20, 4096);
    for mtu in [256, 1024, 4096].into_iter().filter(|mtu| *mtu <= active) {
        let (mut near, mut far) = pair_of(config().with_path_mtu(mtu), config().with_path_mtu(mtu));
        assert_eq!(near.path().expect("a path").mtu, mtu);
        assert_eq!(far.path().expect("a path").mtu, mtu);
        talk(&mut near, &mut far, 1, len);
        let before = sent_packets(&name);
        talk(&mut near, &mut far, count, len);
        let (Some(before), Some(after)) = (before, sent_packets(&name)) else {
            eprintln!("SKIPPED: {name} does not count packets as soft-RoCE does, or only root may ask");
            continue;
        };
        // Each message, and the acknowledgement of its answer.
        let expected = u64::from(count) * (len as u64 / u64::from(mtu) + 1);
        let sent = after - before;
        eprintln!("{count} messages of {len} bytes at a path MTU of {mtu}: {sent} packets");
        // On one device both ends count.
        let (least, most) =
            if rdma::addresses().0 == rdma::addresses().1 { (expected, 2 * expected) } else { (expected, expected) };
        assert!((least..=most + 2).contains(&sent), "{sent} packets, and {expected} were expected");
    }
}

#[test]
fn a_path_mtu_above_that_of_the_way_is_lowered_and_above_the_port_refused() {
    needs_rdma!();
    let _alone = alone();
    let active = device().1.ports[0].active_mtu;
    let (near, far) = pair_of(config().with_path_mtu(active), config());
    assert_eq!(near.path().expect("a path").mtu, far.path().expect("a path").mtu);
    assert!(refused(config().with_path_mtu(1500)).contains("256, 512, 1024, 2048 or 4096"));
    if active < 4096 {
        assert!(refused(config().with_path_mtu(4096)).contains(&format!("carries {active}")));
    }
    let Some(_root) = veth("the MTU of the port") else { return };
    ip("link set veth0 mtu 1500");
    until("a shorter port", || device().1.ports[0].active_mtu == 1024);
    let error = refused(config().with_path_mtu(2048));
    ip("link set veth0 mtu 4200");
    assert!(error.contains("carries 1024"), "{error}");
    until("the port as it was", || device().1.ports[0].active_mtu == active);
}

#[test]
fn each_end_sets_its_own_traffic_class() {
    needs_rdma!();
    let _alone = alone();
    let class = |track: &ReliableTrack| track.path().expect("a path").traffic_class;
    let (mut near, mut far) = pair_of(config().with_traffic_class(26 << 2), config().with_traffic_class(48 << 2));
    if class(&near).is_none() {
        eprintln!("SKIPPED: packets carry no traffic class on this link");
        return;
    }
    assert_eq!((class(&near), class(&far)), (Some(104), Some(192)));
    talk(&mut near, &mut far, 3, 100);
    // The one that sets none has what the connecting end asked for, as the connection manager tells it.
    let (near, far) = pair_of(config().with_traffic_class(104), config());
    assert_eq!(class(&near), Some(104));
    eprintln!("the accepting end, without a setting: {:?}", class(&far));
}

#[test]
fn a_gid_index_is_the_one_that_is_used() {
    needs_rdma!();
    let _alone = alone();
    let (client, server) = rdma::addresses();
    let Some(gid) = gids().into_iter().find(|gid| gid.ip() == Some(client)) else {
        eprintln!("SKIPPED: on this device GIDs are no addresses");
        return;
    };
    let index = u8::try_from(gid.index).expect("a small table");
    let (mut near, mut far) = pair_of(config().with_gid_index(index), config());
    assert_eq!(near.path().expect("a path").gid_index, Some(index));
    talk(&mut near, &mut far, 3, 100);

    // Without `local`, the index says which address.
    let alone = VerbsFabric::open(config().with_device(&device().0).with_gid_index(index)).expect("the device");
    let server_fabric = rdma::fabric(server, config());
    let (track, _far) = join(&alone, server_fabric.listen(&SocketAddr::new(server, 0)).expect("a listener"));
    assert_eq!(track.local().ip(), client);

    assert!(refused(config().with_gid_index(250)).contains("gid_index is 250"));
    if let Some(other) = gids().into_iter().find(|other| other.ip() != Some(client)) {
        assert!(refused(config().with_gid_index(other.index as u8)).contains("leave one of them out"));
    }
}

#[test]
fn a_gid_of_the_other_family_is_no_way_to_a_peer() {
    needs_rdma!();
    let _alone = alone();
    let (_, server) = rdma::addresses();
    let Some(gid) = gids().into_iter().find(|gid| gid.ip().is_some_and(|ip| ip.is_ipv6() != server.is_ipv6())) else {
        eprintln!("SKIPPED: the device has addresses of one family only");
        return;
    };
    let fabric =
        VerbsFabric::open(config().with_device(&device().0).with_gid_index(gid.index as u8)).expect("the device");
    let error = block_on(fabric.connect(&SocketAddr::new(server, 7471))).expect_err("no way");
    eprintln!("{error}");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    let error = fabric.listen(&SocketAddr::new(rdma::addresses().0, 0)).expect_err("another GID");
    eprintln!("{error}");
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[test]
fn every_completion_vector_works_and_no_other() {
    needs_rdma!();
    let _alone = alone();
    let vectors = device().1.completion_vectors;
    for vector in [0, vectors - 1] {
        let (mut near, mut far) = pair_of(config().with_completion_vector(vector), config());
        talk(&mut near, &mut far, 3, 100);
    }
    let error = refused(config().with_completion_vector(vectors));
    assert!(error.contains(&format!("completion_vector is {vectors}")), "{error}");
}

/// Whether the network is one of our own, to be changed.
fn veth(what: &str) -> Option<()> {
    if Path::new("/sys/class/net/veth0").exists() {
        return Some(());
    }
    eprintln!("SKIPPED: {what}: this machine has devices of its own, and their network is not ours to change");
    None
}

fn ip(args: &str) {
    rdma::run(Command::new("ip").args(args.split(' ')));
}

/// An IPv6 address of the device, made where the network is ours.
fn routable_ipv6() -> Option<Ipv6Addr> {
    let find = || {
        gids().iter().find_map(|gid| match gid.ip() {
            Some(IpAddr::V6(ip)) if !ip.is_unicast_link_local() => Some(ip),
            _ => None,
        })
    };
    if find().is_none() && veth("IPv6").is_some() {
        ip("-6 address add fd09::1/64 dev veth0 nodad");
        until("the GID of a new address", || find().is_some());
    }
    find()
}

/// A fabric that talks to itself at this address.
fn talks_to_itself(config: VerbsConfig, addr: SocketAddr) {
    let fabric = VerbsFabric::open(config).unwrap_or_else(|error| panic!("{addr}: {error}"));
    let listener = fabric.listen(&addr).unwrap_or_else(|error| panic!("{addr}: {error}"));
    assert_eq!(listener.local().ip(), addr.ip());
    let (mut near, mut far) = join(&fabric, listener);
    talk(&mut near, &mut far, 5, 5000);
    assert_eq!((near.local().ip(), near.peer().ip()), (addr.ip(), addr.ip()));
    assert_eq!(far.peer().ip(), addr.ip());
}

#[test]
fn ipv6_works() {
    needs_rdma!();
    let _alone = alone();
    let Some(ip) = routable_ipv6() else {
        eprintln!("SKIPPED: the device has no IPv6 address");
        return;
    };
    talks_to_itself(config().with_local(ip.into()), SocketAddr::new(ip.into(), 0));
    // From a fabric that was opened for the other family, too.
    talks_to_itself(config().with_local(rdma::addresses().0), SocketAddr::new(ip.into(), 0));
}

#[test]
fn link_local_addresses_work_with_their_interface_and_are_refused_without() {
    needs_rdma!();
    let _alone = alone();
    let (name, details) = device();
    // An address of the interface, not only the GID that a device makes of its MAC.
    let addresses = rdma::run(Command::new("ip").args(["-6", "-oneline", "address", "show", "scope", "link"]));
    let link_local = |gid: &Gid| match gid.ip() {
        Some(IpAddr::V6(ip)) if ip.is_unicast_link_local() && addresses.contains(&format!(" {ip}/")) => Some(ip),
        _ => None,
    };
    let Some((ip, index)) = gids().iter().find_map(|gid| Some((link_local(gid)?, gid.interface_index))) else {
        assert!(details.ports[0].link != LinkLayer::Ethernet || veth("link-local").is_none(), "no link-local address");
        eprintln!("SKIPPED: {name} has no link-local address");
        return;
    };
    talks_to_itself(config().with_local(ip.into()), SocketAddrV6::new(ip, 0, 0, index).into());

    let fabric = VerbsFabric::open(config().with_local(ip.into())).expect("the device");
    let bare = SocketAddr::new(ip.into(), 7471);
    let errors =
        [block_on(fabric.connect(&bare)).expect_err("no interface"), fabric.listen(&bare).expect_err("no interface")];
    for error in errors {
        eprintln!("{error}");
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        assert!(error.to_string().contains("the index of its interface"), "{error}");
    }
}

#[test]
fn an_address_that_is_nobodys_is_refused() {
    needs_rdma!();
    let nobodys: [IpAddr; 3] =
        ["203.0.113.7".parse().unwrap(), "2001:db8::7".parse().unwrap(), "fe80::77".parse().unwrap()];
    for ip in nobodys {
        let error = VerbsFabric::open(config().with_local(ip)).expect_err("nobody has it");
        eprintln!("{error}");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
}

fn is_active() -> bool {
    device().1.ports[0].state == PortState::Active
}

#[test]
fn an_error_says_that_the_port_went_down() {
    needs_rdma!();
    let _alone = alone();
    let Some(()) = veth("a port that goes down") else { return };
    let (mut near, mut far) = pair_of(config(), config());
    talk(&mut near, &mut far, 3, 100);
    let name = device().0;
    let state = || std::fs::read_to_string(format!("/sys/class/infiniband/{name}/ports/1/state")).unwrap_or_default();
    ip("link set veth0 down");
    until("a port that is down", || state().contains("DOWN"));
    let error = block_on(async {
        let buf = near.reserve(10).await?;
        near.send(buf).map_err(|unsent| unsent.error)?;
        near.flush()?;
        near.recv().await.map(drop)
    })
    .expect_err("the link is down");
    ip("link set veth0 up");
    eprintln!("{error}");
    let VerbsError::LinkDown { device, port: 1, cause, .. } = &error else { panic!("{error}") };
    assert_eq!(*device, name);
    assert_eq!(error.kind(), cause.kind());
    assert!(error.to_string().starts_with(&format!("port 1 of {name} went down at ")), "{error}");
    // It sticks.
    assert_eq!(block_on(near.recv()).expect_err("over"), error);

    // What comes later has nothing to do with it, once its retries would be over.
    until("the port again", is_active);
    ip("address replace 10.9.0.1/24 dev veth0");
    until("a new connection", || {
        let (client, server) = rdma::addresses();
        VerbsFabric::open(config().with_local(client)).is_ok() && VerbsFabric::open(config().with_local(server)).is_ok()
    });
    let (mut near, mut far) = pair_of(config(), config());
    talk(&mut near, &mut far, 3, 100);
}
