//! Two devices that reach each other over IPv6: all sorts of tracks, and who is said to be at their ends.
#![cfg(feature = "verbs")]

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use futures_executor::block_on;
use trespass_core::{
    Access, Completed, Endpoint, Fabric, Incoming, Listener, ListenerExt, MemoryFabric, Port, PortExt, PortFabric,
    RecvSideExt, Region, RemoteMemory, RemoteMemoryExt, SendSideExt, SharedRegion, Sourced, Track, Window,
};
use trespass_verbs::survey::PortState;
use trespass_verbs::{DatagramConfig, SharedConfig, VerbsConfig, VerbsError, VerbsFabric, survey};

#[path = "support/rdma.rs"]
mod rdma;
use rdma::needs_rdma;

/// An IPv6 address, beyond its link, of the device that has `ip`.
fn address_beside(ip: IpAddr) -> Option<Ipv6Addr> {
    let survey = survey(&VerbsConfig::default().with_local(ip));
    let name = survey.choice.expect("the device of the address").device;
    let device = survey.devices.expect("devices").into_iter().find(|device| device.name == name)?;
    let ports = device.details.expect("what it says").ports.into_iter();
    let gids = ports.filter(|port| port.state == PortState::Active).flat_map(|port| port.gids);
    gids.filter_map(|gid| gid.ip()).find_map(|ip| match ip {
        IpAddr::V6(ip) if !ip.is_unicast_link_local() => Some(ip),
        _ => None,
    })
}

/// Fabrics of the two devices, with their addresses; none where they have none, which is said.
fn fabrics() -> Option<[(VerbsFabric, IpAddr); 2]> {
    let (near, far) = rdma::addresses();
    let addresses = (address_beside(near), address_beside(far));
    let (Some(near), Some(far)) = addresses else {
        let on = std::env::var("TRESPASS_RDMA_ON").unwrap_or_default();
        assert!(!["kvm", "tcg"].contains(&&*on), "the machine of scripts/with-rdma has IPv6: {addresses:?}");
        eprintln!("SKIPPED: the devices have no IPv6 addresses");
        return None;
    };
    if near == far {
        eprintln!("SKIPPED: there is one device, which was tried with itself elsewhere");
        return None;
    }
    let open = |ip: Ipv6Addr| (rdma::fabric(ip.into(), VerbsConfig::default().with_slots(4096, 8, 8)), ip.into());
    Some([open(near), open(far)])
}

/// A track from `client` to `server`, whose ends are said to be at their addresses.
fn join<F>((client, near): &(F, IpAddr), (server, far): &(F, IpAddr)) -> (F::Track, F::Track)
where
    F: Fabric<Addr = SocketAddr, Error = VerbsError>,
{
    let mut listener = server.listen(&SocketAddr::new(*far, 0)).unwrap_or_else(|error| panic!("{far}: {error}"));
    let connecting = client.connect(&listener.local());
    let (connected, accepted) = block_on(async {
        let incoming = listener.incoming().await.expect("a request");
        assert_eq!(incoming.peer().ip(), *near);
        let accepted = incoming.accept().await;
        (connecting.await, accepted)
    });
    let (connected, accepted) = match (connected, accepted) {
        (Ok(connected), Ok(accepted)) => (connected, accepted),
        // One end often knows better than the other why not.
        (connected, accepted) => panic!("connecting: {:?}; accepting: {:?}", connected.err(), accepted.err()),
    };
    assert_eq!((connected.local().ip(), connected.peer()), (*near, listener.local()));
    assert_eq!((accepted.local().ip(), accepted.peer().ip()), (*far, *near));
    (connected, accepted)
}

/// Messages of several lengths there, one after another, and back.
fn talk<T: Track<Error = VerbsError>>(one: &mut T, other: &mut T) {
    let max = one.limits().max_message.min(4096);
    for (index, len) in [0, 1, 100, max - 1, max].into_iter().enumerate() {
        let bytes: Vec<u8> = (0..len).map(|at| (at * 31 + index) as u8).collect();
        block_on(async {
            tell(one, other, &bytes).await;
            tell(other, one, &bytes).await;
        });
    }
}

async fn tell<T: Track<Error = VerbsError>>(from: &mut T, to: &mut T, bytes: &[u8]) {
    let mut buf = from.reserve(bytes.len()).await.expect("a slot");
    buf.copy_from_slice(bytes);
    from.send(buf).expect("sent");
    from.flush().expect("flushed");
    assert_eq!(&*to.recv().await.expect("it arrives"), bytes);
}

/// Both ways: each device connects once, and listens once.
fn talks_both_ways<F>(one: &(F, IpAddr), other: &(F, IpAddr))
where
    F: Fabric<Addr = SocketAddr, Error = VerbsError, Track: Track<Error = VerbsError>>,
{
    for (client, server) in [(one, other), (other, one)] {
        let (mut near, mut far) = join(client, server);
        talk(&mut near, &mut far);
        block_on(near.close()).expect("closed");
    }
}

#[test]
fn reliable_tracks_work() {
    needs_rdma!();
    let Some([one, other]) = fabrics() else { return };
    talks_both_ways(&one, &other);
}

#[test]
fn tracks_that_share_their_queues_work() {
    needs_rdma!();
    let Some(fabrics) = fabrics() else { return };
    let [one, other] = fabrics.map(|(fabric, ip)| (fabric.shared(SharedConfig::default()).expect("queues"), ip));
    talks_both_ways(&one, &other);
}

#[test]
fn tracks_of_datagrams_work() {
    needs_rdma!();
    let Some(fabrics) = fabrics() else { return };
    let [one, other] =
        fabrics.map(|(fabric, ip)| (fabric.datagrams(DatagramConfig::default()).expect("datagrams"), ip));
    talks_both_ways(&one, &other);
}

#[test]
fn ports_know_who_has_sent() {
    needs_rdma!();
    let Some(fabrics) = fabrics() else { return };
    let [one, other] =
        fabrics.map(|(fabric, ip)| (fabric.datagrams(DatagramConfig::default()).expect("datagrams"), ip));
    let mut asks = one.0.open_port(&SocketAddr::new(one.1, 0)).expect("a port");
    let mut answers = other.0.open_port(&SocketAddr::new(other.1, 0)).expect("a port");
    block_on(async {
        let peer = one.0.resolve(&answers.local()).await.expect("found");
        let mut buf = asks.reserve(3).await.expect("a slot");
        buf.copy_from_slice(b"why");
        asks.send_to(buf, &peer).expect("sent");
        asks.flush().expect("flushed");
        let question = answers.recv().await.expect("the question");
        assert_eq!((&*question, question.source()), (&b"why"[..], asks.peer()));
        // The way back is made of the header of what came.
        let mut buf = answers.reserve(7).await.expect("a slot");
        buf.copy_from_slice(b"because");
        answers.send_to(buf, &question.source()).expect("sent");
        answers.flush().expect("flushed");
        let answer = asks.recv().await.expect("the answer");
        assert_eq!((&*answer, answer.source()), (&b"because"[..], peer));
    });
}

#[test]
fn memory_is_read() {
    needs_rdma!();
    let Some([one, other]) = fabrics() else { return };
    let (mut near, _far) = join(&one, &other);
    let bytes: Vec<u8> = (0..10_000).map(|at| (at * 7) as u8).collect();
    let mut region = other.0.alloc(bytes.len()).expect("memory");
    region.copy_from_slice(&bytes);
    let shared = region.share();
    let window = shared.export(0..bytes.len(), Access::ReadOnly).expect("a window");
    let whole = window.remote().slice(0, bytes.len()).expect("inside");
    let into = one.0.alloc(bytes.len()).expect("memory");
    let permit = near.try_fetch_permit().expect("one of its own");
    near.read(permit, into, 0, whole, 7).expect("queued");
    match block_on(near.completed()).expect("it is over") {
        Completed::Memory { region, result: Ok(()), tag: 7, .. } => assert!(*region == *bytes),
        other => panic!("{other:?}"),
    }
}
