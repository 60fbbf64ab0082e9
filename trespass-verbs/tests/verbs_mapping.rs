//! Memory that the user mapped is registered where it is: a page of nobody's, and a file.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_executor::block_on;
use trespass_core::{
    Access, Completed, Fabric, Incoming, Listener, ListenerExt, MemoryFabric, Region, RemoteMemory, RemoteMemoryExt,
    SendSide, SharedRegion, Window,
};
use trespass_verbs::{Mapping, ReliableTrack, VerbsConfig, VerbsFabric, VerbsRegion, leaked_registrations};

#[path = "../../tests/support/rdma.rs"]
mod rdma;
use rdma::needs_rdma;

const LEN: usize = 3 * 4096;

/// A mapping of one's own, which counts how often one was given back.
#[derive(Debug)]
struct Mapped {
    start: NonNull<u8>,
    unmapped: Arc<AtomicUsize>,
}

// SAFETY: the mapping belongs to no thread.
unsafe impl Send for Mapped {}

// SAFETY: `start` never changes, and `LEN` bytes from there are mapped readable and writable until the value is dropped.
// Nothing else here keeps the pointer, and the file, where there is one, has no name: nobody else maps it.
unsafe impl Mapping for Mapped {
    fn start(&self) -> NonNull<u8> {
        self.start
    }

    fn len(&self) -> usize {
        LEN
    }
}

impl Mapped {
    fn new(file: Option<&File>, unmapped: &Arc<AtomicUsize>) -> Self {
        let (flags, fd) = match file {
            Some(file) => (libc::MAP_SHARED, file.as_raw_fd()),
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
        };
        // SAFETY: a new mapping at an address that the system chooses, of a descriptor that is open or of none.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), LEN, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0) };
        assert_ne!(start, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        Self { start: NonNull::new(start.cast()).expect("not at 0"), unmapped: Arc::clone(unmapped) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, unmapped once; whoever had the value has let go of the bytes.
        let result = unsafe { libc::munmap(self.start.as_ptr().cast(), LEN) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        self.unmapped.fetch_add(1, Ordering::Relaxed);
    }
}

/// A file of `LEN` bytes that has no name any more.
fn file() -> File {
    let path = std::env::temp_dir().join(format!("trespass-mapping-{}", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path).expect("a file");
    std::fs::remove_file(&path).expect("its name goes");
    file.set_len(LEN as u64).expect("its length");
    file
}

fn done(track: &mut ReliableTrack) -> VerbsRegion {
    track.flush().expect("flushed");
    match block_on(track.completed()).expect("a completion") {
        Completed::Memory { region, result: Ok(()), .. } => region,
        other => panic!("{other:?}"),
    }
}

/// The end that connected, and the one that accepted.
fn join(near: &VerbsFabric, far: &VerbsFabric) -> (ReliableTrack, ReliableTrack) {
    let mut listener = far.listen(&SocketAddr::new(rdma::addresses().1, 0)).expect("a listener");
    let connecting = near.connect(&listener.local());
    block_on(async {
        let accepted = listener.incoming().await.expect("a request").accept().await.expect("accepted");
        (connecting.await.expect("connected"), accepted)
    })
}

#[test]
fn a_users_mapping_is_lent_and_read_into_where_it_is() {
    needs_rdma!();
    let (near, far) = rdma::addresses();
    let open = |ip| VerbsFabric::open(VerbsConfig::default().with_local(ip)).expect("the device");
    let (near, far) = (open(near), open(far));
    let (mut track, accepted) = join(&near, &far);
    let unmapped = Arc::new(AtomicUsize::new(0));

    // A file is lent: the peer writes into it.
    let backing = file();
    let lent = far.register(Mapped::new(Some(&backing), &unmapped)).expect("registered");
    let shared = lent.share();
    let window = shared.export(100..LEN, Access::ReadWrite).expect("a window");
    let mut from = near.alloc(LEN).expect("memory");
    from.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i * 7 + 1) as u8);
    let (sent, slice) = (from.to_vec(), window.remote().slice(0, LEN - 100).expect("inside"));
    let permit = block_on(track.write_permit()).expect("a permit");
    track.write(permit, from, 0, slice, 1).expect("queued");
    drop(done(&mut track));

    // And pages of nobody's are read into.
    let mapped = Mapped::new(None, &unmapped);
    let place = mapped.start();
    let into = near.register(mapped).expect("registered");
    let permit = block_on(track.fetch_permit()).expect("a permit");
    track.read(permit, into, 50, slice, 2).expect("queued");
    let into = done(&mut track);
    assert_eq!((into.as_ptr(), into.len()), (place.as_ptr().cast_const(), LEN), "where it was");
    assert!(into[50..LEN - 50] == sent[..LEN - 100] && into[..50].iter().all(|byte| *byte == 0));

    // A window keeps the file mapped; the last that has it gives it back.
    drop(shared);
    assert_eq!(unmapped.load(Ordering::Relaxed), 0);
    drop((window, into));
    assert_eq!(unmapped.load(Ordering::Relaxed), 2);
    let mut bytes = vec![0; LEN];
    std::os::unix::fs::FileExt::read_exact_at(&backing, &mut bytes, 0).expect("the file");
    assert!(bytes[100..] == sent[..LEN - 100], "the file has what the peer wrote");
    drop((track, accepted));
    assert_eq!(leaked_registrations(), 0);
}

#[test]
fn a_mapping_that_is_in_flight_stays_when_its_track_is_dropped() {
    needs_rdma!();
    let (near, far) = rdma::addresses();
    let open = |ip| VerbsFabric::open(VerbsConfig::default().with_local(ip)).expect("the device");
    let (near, far) = (open(near), open(far));
    let (mut track, accepted) = join(&near, &far);
    let unmapped = Arc::new(AtomicUsize::new(0));
    let shared = far.alloc(LEN).expect("memory").share();
    let window = shared.export(0..LEN, Access::ReadOnly).expect("a window");
    let into = near.register(Mapped::new(None, &unmapped)).expect("registered");
    let permit = block_on(track.fetch_permit()).expect("a permit");
    track.read(permit, into, 0, window.remote().slice(0, LEN).expect("inside"), 0).expect("queued");
    track.flush().expect("flushed");
    drop((track, accepted));
    // It goes when the queue pair is gone, in the driver's time.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while unmapped.load(Ordering::Relaxed) == 0 {
        assert!(std::time::Instant::now() < deadline, "the mapping is never given back");
        std::thread::yield_now();
    }
    assert_eq!(leaked_registrations(), 0);
}
