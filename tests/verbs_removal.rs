//! A device that goes away under those who use it: all of them are told so in time, and those of other devices go on.
//!
//! The kernel takes a device away when the last program has let go of it, and librdmacm lets go when a program ends: so
//! those who use it here are a program of their own.
#![cfg(feature = "verbs")]

use std::future::Future;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_executor::block_on;
use trespass_core::{
    ErrorKind, Fabric, Incoming, Listener, ListenerExt, PortExt, PortFabric, RecvSideExt, SendSide, SendSideExt, Track,
    TransportError, wait_within,
};
use trespass_verbs::{DatagramConfig, SharedConfig, VerbsConfig, VerbsError, VerbsFabric};

#[path = "support/rdma.rs"]
mod rdma;
use rdma::needs_rdma;

/// Far beyond what a device that is removed may take to say so, and far below the deadlines of the handshakes.
const SOON: Duration = Duration::from_secs(30);

fn config() -> VerbsConfig {
    VerbsConfig::default().with_slots(4096, 8, 8).with_timeouts(Duration::from_secs(300), Duration::from_secs(5))
}

/// Joins two tracks from `client` to `server` at `ip`.
fn join<F: Fabric<Addr = SocketAddr, Error = VerbsError>>(client: &F, server: &F, ip: IpAddr) -> (F::Track, F::Track) {
    let mut listener = server.listen(&SocketAddr::new(ip, 0)).expect("a listener");
    let connecting = client.connect(&listener.local());
    block_on(async {
        let accepted = listener.incoming().await.expect("a request").accept().await.expect("accepted");
        (connecting.await.expect("connected"), accepted)
    })
}

/// One message there.
async fn tell<T: Track<Error = VerbsError>>(from: &mut T, to: &mut T) -> Result<(), VerbsError> {
    let mut buf = from.reserve(3).await?;
    buf.copy_from_slice(b"yes");
    from.send(buf).map_err(|unsent| unsent.error)?;
    from.flush()?;
    assert_eq!(&*to.recv().await?, b"yes");
    Ok(())
}

/// Whoever waits for `what` on the device that goes is told in time, and why.
fn is_told<T>(what: &str, waiting: impl Future<Output = Result<T, VerbsError>>) {
    let Err(error) = wait_within(SOON, waiting).unwrap_or_else(|| panic!("{what}: nobody was told")) else {
        panic!("{what}: it cannot have worked");
    };
    println!("{what}: {error}");
    assert_eq!(error.kind(), ErrorKind::Device, "{what}: {error}");
    assert!(error.to_string().contains("removed"), "{what}: {error}");
}

/// The part of `all_on_a_removed_device_are_told` that uses the device: nothing without its parent, which removes the far
/// one when this is ready.
#[test]
fn child_on_a_device_that_goes() {
    if std::env::var_os("TRESPASS_TEST_CHILD").is_none() {
        return;
    }
    let (near, far) = rdma::addresses();
    let open = |ip| rdma::fabric(ip, config());
    let (stays, goes) = (open(near), open(far));
    let datagrams = |fabric: &VerbsFabric| fabric.datagrams(DatagramConfig::default()).expect("datagrams");
    let shared = |fabric: &VerbsFabric| fabric.shared(SharedConfig::default()).expect("shared queues");

    let (mut own, mut other) = join(&stays, &stays, near);
    let (mut left, mut track) = join(&stays, &goes, far);
    let (mut near_shared, mut shared) = join(&shared(&stays), &shared(&goes), far);
    let (mut near_datagrams, mut unreliable) = join(&datagrams(&stays), &datagrams(&goes), far);
    block_on(async {
        tell(&mut left, &mut track).await?;
        tell(&mut near_shared, &mut shared).await?;
        tell(&mut near_datagrams, &mut unreliable).await
    })
    .expect("all is well at first");
    let mut listener = goes.listen(&SocketAddr::new(far, 0)).expect("a listener");
    let mut for_datagrams = datagrams(&goes).listen(&SocketAddr::new(far, 0)).expect("a listener");
    let mut port = datagrams(&goes).open_port(&SocketAddr::new(far, 0)).expect("a port");
    // Nobody accepts on the other side.
    let silent = stays.listen(&SocketAddr::new(near, 0)).expect("a listener");
    let connecting = goes.connect(&silent.local());

    println!("ready");
    is_told("a track", track.recv());
    is_told("a track that shares its queues", shared.recv());
    is_told("a track of datagrams", unreliable.recv());
    is_told("a port", port.recv());
    is_told("a listener", listener.incoming());
    is_told("a listener for datagrams", for_datagrams.incoming());
    is_told("a connect", connecting);
    // It sticks, and for the other half too.
    is_told("the track again", track.recv());
    is_told("its sending half", track.reserve(1));

    // To the peer it is as if the machine had died.
    let error = wait_within(SOON, async {
        loop {
            let sent = match left.reserve(1).await {
                Ok(buf) => left.send(buf).map_err(|unsent| unsent.error),
                Err(error) => Err(error),
            };
            if let Err(error) = sent.and_then(|()| left.flush()) {
                return error;
            }
        }
    });
    let error = error.expect("the peer is told in time");
    println!("the peer: {error}");
    assert!(matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::Closed), "{error}");
    // Those of the other device are none the worse.
    block_on(tell(&mut own, &mut other)).expect("a track of the other device goes on");
    let (mut near, mut far) = join(&stays, &stays, near);
    block_on(tell(&mut near, &mut far)).expect("and so does a new one");
    drop((track, shared, unreliable, port, listener, for_datagrams, goes));
    println!("done");
}

/// A child that is dead when this is dropped.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        // Nothing where it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Why a device cannot be removed here, if so.
fn stays() -> Option<&'static str> {
    if !Path::new("/sys/class/net/veth0").exists() {
        return Some("this machine has devices of its own, and they are not ours to remove");
    }
    // What came last is told first. Where all is one kernel the programs that have the device open come before the
    // connection manager, and the kernel waits for them before it tells anybody.
    let has_modules = Path::new("/sys/module/rdma_cm/initstate").exists();
    (!has_modules).then_some("a kernel without modules waits for its users before it tells them")
}

fn device_of(link: &str) -> String {
    let devices = std::fs::read_dir("/sys/class/infiniband").expect("there are devices");
    let mut names = devices.map(|device| device.expect("a device").file_name().into_string().expect("a name"));
    let is_on = |name: &String| {
        let on = std::fs::read_to_string(format!("/sys/class/infiniband/{name}/parent"));
        on.is_ok_and(|parent| parent.trim() == link)
    };
    names.find(is_on).unwrap_or_else(|| panic!("no device on {link}"))
}

#[test]
fn all_on_a_removed_device_are_told() {
    needs_rdma!();
    if let Some(why) = stays() {
        return eprintln!("SKIPPED: {why}");
    }
    let device = device_of("veth1");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "child_on_a_device_that_goes", "--nocapture"]).env("TRESPASS_TEST_CHILD", "1");
    let mut child = Ending(command.stdout(Stdio::piped()).spawn().expect("the child"));
    let mut lines = BufReader::new(child.0.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("ready")), "the child did not get ready");
    // It ends when the child has.
    let mut removal = Command::new("rdma").args(["link", "delete", &device]).spawn().expect("rdma");
    let said: Vec<_> = lines.collect();
    let outcome = child.0.wait().expect("its end");
    drop(child);
    let removed = removal.wait().expect("the end of the removal");
    rdma::run(Command::new("rdma").args(["link", "add", &device, "type", "rxe", "netdev", "veth1"]));
    until_all_is_as_before();
    eprintln!("{}", said.join("\n"));
    assert!(removed.success(), "{device} could not be removed: {removed}");
    assert!(outcome.success(), "{outcome}");
    assert!(said.iter().any(|line| line == "done"), "the child did nothing");
}

fn until_all_is_as_before() {
    let (near, far) = rdma::addresses();
    let deadline = Instant::now() + SOON;
    let open = |ip| VerbsFabric::open(config().with_local(ip));
    let (near, back) = loop {
        match (open(near), open(far)) {
            (Ok(near), Ok(back)) => break (near, back),
            (Err(error), _) | (_, Err(error)) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::yield_now();
    };
    let (mut one, mut other) = join(&near, &back, far);
    block_on(tell(&mut one, &mut other)).expect("a device that came back works");
}
