//! No hidden format: a C program on plain libibverbs and librdmacm, tests/interop/peer.c, is a peer for messages, datagrams
//! and one-sided memory, in both directions, byte for byte. It is built here: that needs gcc and the headers of rdma-core.
#![cfg(feature = "verbs")]

use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use futures_executor::block_on;
use trespass_core::{
    Access, Completed, Endpoint, ErrorKind, Fabric, Incoming, Listener, ListenerExt, MemoryFabric, Port, PortExt,
    PortFabric, RecvSideExt, Region, RemoteMemory, RemoteMemoryExt, RemoteWindow, SendSide, SendSideExt, SharedRegion,
    Sourced, TransportError, Window,
};
use trespass_verbs::{
    DatagramConfig, ReliableTrack, VerbsConfig, VerbsDatagrams, VerbsFabric, VerbsRegion, VerbsSharedRegion,
};

#[path = "support/rdma.rs"]
mod rdma;
use rdma::needs_rdma;

/// The built program, in the folder for what is temporary: the tree may be read-only. Built once for each run of the tests,
/// under a name of its own, and put in place of that of the run before.
fn program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let path = std::env::temp_dir().join("trespass-interop-peer");
        let fresh = path.with_extension(std::process::id().to_string());
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/peer.c");
        let mut gcc = Command::new("gcc");
        gcc.args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&fresh).args([source, "-libverbs", "-lrdmacm"]);
        rdma::run(&mut gcc);
        std::fs::rename(&fresh, &path).expect("a program in place of the one before");
        path
    })
}

/// The C program, running. It ends by itself within a minute, whatever happens.
struct Peer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    fn run(args: &[String]) -> Self {
        let mut child =
            Command::new(program()).args(args).stdout(Stdio::piped()).spawn().expect("the program that was built");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, lines }
    }

    /// One that waits, on the far device, and where.
    fn waiting(mode: &str) -> (Self, SocketAddr) {
        let (_, far) = rdma::addresses();
        let mut peer = Self::run(&[mode.to_owned(), far.to_string()]);
        let line = peer.line();
        let port = line.strip_prefix("port ").expect("its port").parse().expect("a number");
        (peer, SocketAddr::new(far, port))
    }

    /// One that begins, on the near device.
    fn calling(mode: &str, addr: SocketAddr) -> Self {
        let (near, _) = rdma::addresses();
        Self::run(&[mode.to_owned(), near.to_string(), addr.ip().to_string(), addr.port().to_string()])
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("it says something").expect("text")
    }

    fn end(&mut self) -> ExitStatus {
        self.child.wait().expect("its end")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn far_addr() -> SocketAddr {
    SocketAddr::new(rdma::addresses().1, 0)
}

/// A track that the C program connected to, or accepted, with its fabric.
struct World {
    peer: Peer,
    fabric: VerbsFabric,
    track: ReliableTrack,
}

impl World {
    fn accepting() -> Self {
        let fabric = rdma::fabric(rdma::addresses().1, VerbsConfig::default());
        let mut listener = fabric.listen(&far_addr()).expect("a listener");
        let peer = Peer::calling("connect", listener.local());
        let track = block_on(async { listener.incoming().await.expect("a request").accept().await.expect("accepted") });
        Self { peer, fabric, track }
    }

    fn connecting() -> Self {
        let (peer, addr) = Peer::waiting("listen");
        let fabric = rdma::fabric(rdma::addresses().0, VerbsConfig::default());
        let track = block_on(fabric.connect(&addr)).expect("connected");
        Self { peer, fabric, track }
    }

    fn tell(&mut self, message: &[u8]) {
        let mut buf = block_on(self.track.reserve(message.len())).expect("a slot");
        buf.copy_from_slice(message);
        self.track.send(buf).expect("sent");
        self.track.flush().expect("flushed");
    }

    fn ask(&mut self, message: &[u8]) -> Vec<u8> {
        self.tell(message);
        block_on(self.track.recv()).expect("its reply").to_vec()
    }

    fn ask_for_word(&mut self, message: &[u8]) -> u64 {
        u64::from_le_bytes(self.ask(message).try_into().expect("eight bytes"))
    }

    /// The window that it lends, as it tells it.
    fn its_window(&mut self) -> RemoteWindow {
        let said = self.ask(b"w");
        let word = |at: usize| u64::from_le_bytes(said[at..at + 8].try_into().expect("eight bytes"));
        let key = u32::try_from(word(16)).expect("a key");
        RemoteWindow::new(word(0), word(8), key, Access::ReadWrite).expect("a window")
    }

    fn word(&mut self) -> u64 {
        self.track.flush().expect("flushed");
        match block_on(self.track.completed()).expect("a completion") {
            Completed::Word { result, .. } => result.expect("done"),
            other => panic!("{other:?}"),
        }
    }

    fn memory(&mut self) -> VerbsRegion {
        self.track.flush().expect("flushed");
        match block_on(self.track.completed()).expect("a completion") {
            Completed::Memory { region, result, .. } => {
                result.expect("done");
                region
            }
            other => panic!("{other:?}"),
        }
    }

    fn part(mut self) {
        self.tell(b"q");
        let end = block_on(self.track.recv()).expect_err("it goes away");
        assert_eq!(end.kind(), ErrorKind::Closed, "{end}");
        assert!(self.peer.end().success());
    }
}

/// What the program is told to do with a window: see `obey` in peer.c.
fn order(what: u8, window: &[u8; RemoteWindow::ENCODED], offset: u64, a: u64, b: u64) -> Vec<u8> {
    let mut order = vec![what, 0, 0, 0, 0, 0, 0, 0];
    order.extend_from_slice(window);
    [offset, a, b].iter().for_each(|word| order.extend_from_slice(&word.to_le_bytes()));
    order
}

fn messages(world: &mut World) {
    for (round, len) in [0, 1, 57, 256, 257, 4096, 8192].into_iter().cycle().take(140).enumerate() {
        let mut message: Vec<u8> = (0..len).map(|i: usize| (i * 31 + round) as u8).collect();
        if let Some(first) = message.first_mut() {
            *first = b'e';
        }
        assert!(world.ask(&message) == message, "message {round} of {len} bytes comes back as it was");
    }
}

/// What trespass does to memory that the program lends.
fn we_use_its_memory(world: &mut World) {
    let window = world.its_window();
    let mut expected: Vec<u8> = (0..4096).map(|i: usize| (i * 7 + 3) as u8).collect();

    let into = world.fabric.alloc(5000).expect("memory");
    let permit = block_on(world.track.fetch_permit()).expect("a permit");
    world.track.read(permit, into, 100, window.slice(1, 4095).expect("inside"), 1).expect("queued");
    let mut region = world.memory();
    assert!(region[100..4195] == expected[1..], "a read of all but a byte");
    assert!(region[..100].iter().chain(&region[4195..]).all(|byte| *byte == 0), "and of nothing else");

    region.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i * 13 + 1) as u8);
    expected[17..3017].copy_from_slice(&region[1000..4000]);
    let permit = block_on(world.track.write_permit()).expect("a permit");
    world.track.write(permit, region, 1000, window.slice(17, 3000).expect("inside"), 2).expect("queued");
    world.memory();
    for (offset, len) in [(3100, 5), (3200, 700)] {
        let mut buf = block_on(world.track.reserve(len)).expect("a slot");
        buf.fill(len as u8);
        expected[offset..offset + len].fill(len as u8);
        world.track.write_buf(buf, window.slice(offset as u64, len).expect("inside")).expect("queued");
    }
    // A write is there before a message that is sent after it.
    assert!(world.ask(b"s") == expected, "what was written is there, and the rest as it was");

    let mut word = u64::from_le_bytes(expected[4088..].try_into().expect("a word"));
    let place = window.word(4088).expect("aligned");
    for add in [1, u64::MAX, 1 << 40] {
        let permit = block_on(world.track.fetch_permit()).expect("a permit");
        world.track.fetch_add(permit, place, add, 3).expect("queued");
        assert_eq!(world.word(), word);
        word = word.wrapping_add(add);
    }
    for (expect, new) in [(word, 5), (word, 6), (5, 7)] {
        let permit = block_on(world.track.fetch_permit()).expect("a permit");
        world.track.compare_swap(permit, place, expect, new, 4).expect("queued");
        assert_eq!(world.word(), word);
        word = if expect == word { new } else { word };
    }
    expected[4088..].copy_from_slice(&7u64.to_le_bytes());
    assert!(world.ask(b"s") == expected, "the word is what it was changed to, and the rest as it was");
}

/// Shared memory of trespass, of which byte number i is i * 11 + 5, in front of a window and behind it too.
fn memory(fabric: &VerbsFabric) -> (VerbsSharedRegion, Vec<u8>) {
    let mut region = fabric.alloc(8192).expect("memory");
    region.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i * 11 + 5) as u8);
    let bytes = region.to_vec();
    (region.share(), bytes)
}

fn copy_of(shared: &VerbsSharedRegion) -> Vec<u8> {
    let mut bytes = vec![0; shared.len()];
    shared.read_at(0, &mut bytes).expect("inside");
    bytes
}

/// What the program does to a window of trespass.
fn it_uses_our_memory(world: &mut World) {
    let (shared, mut expected) = memory(&world.fabric);
    let window = shared.export(1000..5000, Access::ReadWrite).expect("a window");
    let told = window.remote().encode();

    assert!(world.ask(&order(b'r', &told, 3, 3997, 0)) == expected[1003..5000], "a read up to the end of the window");
    assert_eq!(world.ask(&order(b'W', &told, 1, 2001, 3)).len(), 1);
    expected[1001..3002].iter_mut().enumerate().for_each(|(i, byte)| *byte = (i * 3 + 1) as u8);
    assert!(copy_of(&shared) == expected, "what it wrote, and nothing else");

    let word = shared.load(4000).expect("a word");
    assert_eq!(world.ask_for_word(&order(b'f', &told, 3000, u64::MAX, 0)), word);
    assert_eq!(world.ask_for_word(&order(b'c', &told, 3000, word, 9)), word.wrapping_sub(1), "not what it expects");
    assert_eq!(world.ask_for_word(&order(b'c', &told, 3000, word.wrapping_sub(1), 9)), word.wrapping_sub(1));
    assert_eq!(shared.load(4000), Ok(9));
    expected[4000..4008].copy_from_slice(&9u64.to_le_bytes());
    assert!(copy_of(&shared) == expected, "the word, and nothing else");
}

fn everything(mut world: World) {
    messages(&mut world);
    we_use_its_memory(&mut world);
    it_uses_our_memory(&mut world);
    world.part();
}

#[test]
fn a_c_program_that_connects() {
    needs_rdma!();
    everything(World::accepting());
}

#[test]
fn a_c_program_that_listens() {
    needs_rdma!();
    everything(World::connecting());
}

/// `IBV_WC_REM_ACCESS_ERR`.
const REMOTE_ACCESS: &str = "status 10";

/// Has the program do what `order` makes of a window with `access` to bytes 1000 to 5000. It has to be refused, to end the
/// track, and to change nothing.
fn refused(what: &str, access: Access, order: impl FnOnce(RemoteWindow) -> Vec<u8>) {
    let mut world = World::accepting();
    let (shared, expected) = memory(&world.fabric);
    let window = shared.export(1000..5000, access).expect("a window");
    world.tell(&order(window.remote()));
    assert_eq!(world.peer.line(), REMOTE_ACCESS, "{what}");
    let end = block_on(world.track.recv()).expect_err("the track does not survive it");
    eprintln!("{what}: refused; here: {end}");
    assert!(copy_of(&shared) == expected, "{what} changed something");
    drop(window);
    assert!(shared.reclaim().is_ok(), "{what}: nobody has it any more");
}

#[test]
fn what_a_c_program_may_not_is_refused_and_changes_nothing() {
    needs_rdma!();
    let spoilt = |window: RemoteWindow| {
        let mut bytes = window.encode();
        // Another index, not another variant of the key.
        bytes[5] ^= 0x55;
        bytes
    };
    let (all, some) = (Access::ReadWrite, Access::ReadOnly);
    refused("a write with a bad key", all, |window| order(b'W', &spoilt(window), 0, 8, 3));
    refused("a read with a bad key", all, |window| order(b'r', &spoilt(window), 0, 8, 0));
    refused("an addition with a bad key", all, |window| order(b'f', &spoilt(window), 0, 1, 0));
    refused("a write across the end", all, |window| order(b'W', &window.encode(), 3990, 20, 3));
    refused("a write across the beginning", all, |window| order(b'W', &window.encode(), 0u64.wrapping_sub(8), 16, 3));
    refused("a write behind the end", all, |window| order(b'W', &window.encode(), 4000, 8, 3));
    refused("a read across the end", all, |window| order(b'r', &window.encode(), 3999, 2, 0));
    refused("an addition across the end", all, |window| order(b'f', &window.encode(), 4000, 1, 0));
    refused("a write where one may read", some, |window| order(b'W', &window.encode(), 0, 8, 3));
    refused("an addition where one may read", some, |window| order(b'f', &window.encode(), 0, 1, 0));
    refused("an exchange where one may read", some, |window| order(b'c', &window.encode(), 0, 0, 1));
}

#[test]
fn a_revoked_window_is_closed_to_a_c_program() {
    needs_rdma!();
    let mut world = World::accepting();
    let (shared, expected) = memory(&world.fabric);
    let window = shared.export(0..4096, Access::ReadWrite).expect("a window");
    let told = window.remote().encode();
    assert!(world.ask(&order(b'r', &told, 0, 4096, 0)) == expected[..4096]);
    window.revoke().expect("revoked");
    world.tell(&order(b'W', &told, 0, 8, 3));
    assert_eq!(world.peer.line(), REMOTE_ACCESS);
    assert!(copy_of(&shared) == expected);
}

fn datagrams(near: bool) -> VerbsDatagrams {
    let (one, other) = rdma::addresses();
    let ip = if near { one } else { other };
    rdma::fabric(ip, VerbsConfig::default()).datagrams(DatagramConfig::default()).expect("datagrams")
}

const LENGTHS: [usize; 6] = [0, 1, 40, 256, 257, 1000];

/// The program says that each of its datagrams came back as it was.
fn was_content(mut peer: Peer, most: usize) {
    assert_eq!(peer.line(), format!("echoed up to {most}"));
    assert!(peer.end().success());
}

#[test]
fn a_c_program_asks_for_a_track_of_datagrams() {
    needs_rdma!();
    let fabric = datagrams(false);
    let mut listener = fabric.listen(&far_addr()).expect("a listener");
    let peer = Peer::calling("track", listener.local());
    let most = block_on(async {
        let mut track = listener.incoming().await.expect("a request").accept().await.expect("accepted");
        for _ in 0..70 {
            let message = track.recv().await.expect("a datagram");
            let mut reply = track.reserve(message.len()).await.expect("a slot");
            reply.copy_from_slice(&message);
            track.send(reply).expect("sent");
            track.flush().expect("flushed");
        }
        track.limits().max_message
    });
    was_content(peer, most);
}

#[test]
fn a_c_program_finds_a_port() {
    needs_rdma!();
    let fabric = datagrams(false);
    let mut port = fabric.open_port(&far_addr()).expect("a port");
    let peer = Peer::calling("find", port.local());
    block_on(async {
        for _ in 0..70 {
            let message = port.recv().await.expect("a datagram");
            let mut reply = port.reserve(message.len()).await.expect("a slot");
            reply.copy_from_slice(&message);
            port.send_to(reply, &message.source()).expect("sent");
            port.flush().expect("flushed");
        }
    });
    was_content(peer, port.limits().max_message);
}

#[test]
fn a_c_program_gives_a_track_of_datagrams() {
    needs_rdma!();
    let (mut peer, addr) = Peer::waiting("answer");
    let mut track = block_on(datagrams(true).connect(&addr)).expect("connected");
    let most = track.limits().max_message;
    let pass = async |track: &mut trespass_verbs::UnreliableTrack, message: &[u8]| {
        let mut buf = track.reserve(message.len()).await.expect("a slot");
        buf.copy_from_slice(message);
        track.send(buf).expect("sent");
        track.flush().expect("flushed");
        assert!(*track.recv().await.expect("the echo") == *message, "{} bytes as they were", message.len());
    };
    block_on(async {
        for (round, len) in LENGTHS.into_iter().chain([most]).cycle().take(70).enumerate() {
            let message: Vec<u8> = (0..len).map(|i| (i * 31 + round) as u8 & 0x7e).collect();
            pass(&mut track, &message).await;
        }
        pass(&mut track, b"q").await;
    });
    assert!(peer.end().success());
}

#[test]
fn a_c_program_is_a_port() {
    needs_rdma!();
    let (mut peer, addr) = Peer::waiting("answer");
    let fabric = datagrams(true);
    block_on(async {
        let mut port = fabric.open_port(&SocketAddr::new(rdma::addresses().0, 0)).expect("a port");
        let to = fabric.resolve(&addr).await.expect("found");
        let most = port.limits().max_message;
        let rounds = LENGTHS.into_iter().chain([most]).cycle().take(70).enumerate();
        let bytes = rounds.map(|(round, len)| (0..len).map(|i| (i * 31 + round) as u8 & 0x7e).collect());
        for message in bytes.chain([b"q".to_vec()]) {
            let mut buf = port.reserve(message.len()).await.expect("a slot");
            buf.copy_from_slice(&message);
            port.send_to(buf, &to).expect("sent");
            port.flush().expect("flushed");
            let echo = port.recv().await.expect("the echo");
            assert!(*echo == message[..], "{} bytes as they were", message.len());
            assert_eq!(echo.source(), to);
        }
    });
    assert!(peer.end().success());
}
