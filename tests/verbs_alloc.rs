//! On real verbs too, no message allocates once a track is set up. A binary of its own: its allocator counts.
#![cfg(feature = "verbs")]

use std::future::Future;
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use futures_executor::block_on;
use trespass_carriers::{
    MessageCarrier, MessageConfig, RendezvousCarrier, RendezvousConfig, StreamCarrier, StreamConfig, TryRegionError,
};
use trespass_core::{
    Access, Carrier, Completed, Fabric, Incoming, Listener, ListenerExt, MemoryFabric, RecvSide, Region, RemoteMemory,
    RemoteWindow, Role, SendSide, SharedRegion, TryError, Window,
};
use trespass_verbs::{
    DatagramConfig, ReliableTrack, UnreliableTrack, VerbsConfig, VerbsError, VerbsFabric, VerbsRegion,
};

#[path = "support/rdma.rs"]
mod rdma;
use rdma::needs_rdma;

fn put(track: &mut ReliableTrack, len: usize) -> bool {
    match track.try_reserve(len) {
        Ok(mut buf) => {
            buf.fill(7);
            track.send(buf).expect("sent");
            true
        }
        Err(TryError::WouldBlock) => false,
        Err(TryError::Failed(error)) => panic!("{error}"),
    }
}

/// Spins until a message is there; the processor is left to the device, which may be software.
fn take(track: &mut ReliableTrack) -> usize {
    loop {
        match track.try_recv() {
            Ok(buf) => return buf.len(),
            Err(TryError::WouldBlock) => std::thread::yield_now(),
            Err(TryError::Failed(error)) => panic!("{error}"),
        }
    }
}

#[test]
fn a_message_allocates_nothing() {
    needs_rdma!();
    let (mut near, mut far) = rdma::pair(VerbsConfig::default().with_slots(4096, 8, 8));
    let info = measure(|| {
        for round in 0..100 {
            let len = [0, 1, 64, 256, 257, 4096][round % 6];
            assert!(put(&mut near, len));
            near.flush().expect("flushed");
            assert_eq!(take(&mut far), len);
            assert!(put(&mut far, len));
            far.flush().expect("flushed");
            assert_eq!(take(&mut near), len);
        }
    });
    assert_eq!(info.count_total, 0, "{info:?}");
}

#[test]
fn stalls_and_waits_allocate_nothing() {
    needs_rdma!();
    let (mut near, mut far) = rdma::pair(VerbsConfig::default().with_slots(4096, 8, 8));
    let mut held = Vec::with_capacity(8);
    let mut cx = Context::from_waker(Waker::noop());
    let info = measure(|| {
        for _ in 0..20 {
            while put(&mut near, 100) {}
            near.flush().expect("flushed");
            let _ = near.poll_send_ready(&mut cx);
            while held.len() < 8 {
                match far.try_recv() {
                    Ok(buf) => held.push(buf),
                    Err(TryError::WouldBlock) => std::thread::yield_now(),
                    Err(TryError::Failed(error)) => panic!("{error}"),
                }
            }
            let _ = far.poll_recv_ready(&mut cx);
            held.clear();
            let _ = far.poll_recv_ready(&mut cx);
            while near.poll_send_ready(&mut cx).is_pending() {
                std::thread::yield_now();
            }
        }
    });
    assert_eq!(info.count_total, 0, "{info:?}");
}

#[test]
fn a_datagram_allocates_nothing() {
    needs_rdma!();
    let (client, server) = rdma::addresses();
    let open = |ip| {
        let fabric = rdma::fabric(ip, VerbsConfig::default());
        fabric.datagrams(DatagramConfig::default().with_slots(8, 8)).expect("datagrams")
    };
    let (client, server) = (open(client), open(server));
    let mut listener = server.listen(&std::net::SocketAddr::new(rdma::addresses().1, 0)).expect("a listener");
    let mut join = || {
        let connecting = client.connect(&listener.local());
        block_on(async {
            let accepted = listener.incoming().await.expect("a request").accept().await.expect("accepted");
            (connecting.await.expect("connected"), accepted)
        })
    };
    let (mut first, mut second) = (join(), join());
    let mut cx = Context::from_waker(Waker::noop());
    let mut pass = |from: &mut UnreliableTrack, to: &mut UnreliableTrack, len: usize| {
        let mut buf = from.try_reserve(len).expect("a slot");
        buf.fill(7);
        from.send(buf).expect("sent");
        from.flush().expect("flushed");
        let received = loop {
            match to.try_recv() {
                Ok(buf) => break buf.len(),
                Err(TryError::WouldBlock) => {
                    let _ = to.poll_recv_ready(&mut cx);
                    std::thread::yield_now();
                }
                Err(TryError::Failed(error)) => panic!("{error}"),
            }
        };
        assert_eq!(received, len);
    };
    let mut round = |len: usize| {
        for (near, far) in [&mut first, &mut second] {
            pass(near, far, len);
            pass(far, near, len);
        }
    };
    round(1);
    let info = measure(|| [0, 1, 64, 256, 257, 1000].into_iter().cycle().take(100).for_each(&mut round));
    assert_eq!(info.count_total, 0, "{info:?}");
}

/// What is over next; the processor is left to the device, which may be software.
fn completed(track: &mut ReliableTrack) -> Completed<VerbsRegion, VerbsError> {
    loop {
        match track.try_complete() {
            Ok(completed) => return completed,
            Err(TryError::WouldBlock) => std::thread::yield_now(),
            Err(TryError::Failed(error)) => panic!("{error}"),
        }
    }
}

fn memory_of(completed: Completed<VerbsRegion, VerbsError>) -> VerbsRegion {
    match completed {
        Completed::Memory { region, result: Ok(()), .. } => region,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_operation_allocates_nothing() {
    needs_rdma!();
    let (client, server) = rdma::addresses();
    let open = |ip| rdma::fabric(ip, VerbsConfig::default().with_slots(4096, 8, 8));
    let (client, server) = (open(client), open(server));
    let mut listener = server.listen(&std::net::SocketAddr::new(rdma::addresses().1, 0)).expect("a listener");
    let connecting = client.connect(&listener.local());
    let (mut near, mut far) = block_on(async {
        let accepted = listener.incoming().await.expect("a request").accept().await.expect("accepted");
        (connecting.await.expect("connected"), accepted)
    });
    let shared = server.alloc(8192).expect("memory").share();
    let window = shared.export(0..8192, Access::ReadWrite).expect("a window");
    let (slice, word) = (window.remote().slice(8, 5000).expect("inside"), window.remote().word(0).expect("aligned"));
    let mut regions = vec![client.alloc(6000).expect("memory")];
    let mut cx = Context::from_waker(Waker::noop());
    let mut round = |near: &mut ReliableTrack, far: &mut ReliableTrack| {
        let region = regions.pop().expect("it came back");
        let permit = near.try_write_permit().expect("a permit");
        near.write(permit, region, 100, slice, 0).expect("queued");
        let _ = near.poll_complete_ready(&mut cx);
        let region = memory_of(completed(near));
        let permit = near.try_fetch_permit().expect("a permit");
        near.read(permit, region, 1000, slice, 1).expect("queued");
        let permit = near.try_fetch_permit().expect("a permit");
        near.fetch_add(permit, word, 1, 2).expect("queued");
        let permit = near.try_fetch_permit().expect("a permit");
        near.compare_swap(permit, word, 0, 1, 3).expect("queued");
        drop(near.try_fetch_permit().expect("a permit"));
        let buf = near.try_reserve(64).expect("a slot");
        near.write_buf(buf, window.remote().slice(6000, 64).expect("inside")).expect("queued");
        near.flush().expect("flushed");
        let region = memory_of(completed(near));
        assert!(matches!(completed(near), Completed::Word { result: Ok(_), .. }));
        assert!(matches!(completed(near), Completed::Word { result: Ok(_), .. }));
        let head = near.try_reserve(10).expect("a slot");
        near.send_gathered(head, region, 0..1000, 4).expect("queued");
        near.flush().expect("flushed");
        assert_eq!(take(far), 1010);
        regions.push(memory_of(completed(near)));
    };
    round(&mut near, &mut far);
    let info = measure(|| (0..100).for_each(|_| round(&mut near, &mut far)));
    assert_eq!(info.count_total, 0, "{info:?}");
    assert_eq!(shared.load(0), Ok(101));
}

/// One message from `near` to `far`, of any length, without an executor: both ends are called in turn until it is there.
fn pass(near: &mut MessageCarrier<ReliableTrack>, far: &mut MessageCarrier<ReliableTrack>, data: &[u8]) {
    let mut cx = Context::from_waker(Waker::noop());
    let mut sending = near.send(data);
    let (mut sent, mut received) = (false, false);
    while !(sent && received) {
        if !sent {
            if let Poll::Ready(outcome) = std::pin::Pin::new(&mut sending).poll(&mut cx) {
                outcome.expect("sent");
                sent = true;
            }
        }
        if !received {
            match far.try_recv() {
                Ok(message) => {
                    assert!(message.expect("a message")[..] == *data);
                    received = true;
                }
                Err(TryError::WouldBlock) => std::thread::yield_now(),
                Err(TryError::Failed(error)) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn a_message_of_a_carrier_allocates_nothing() {
    needs_rdma!();
    let (near, far) = rdma::pair(VerbsConfig::default().with_slots(4096, 16, 16));
    let opening = std::thread::spawn(move || {
        block_on(MessageCarrier::open(far, Role::Acceptor, MessageConfig::default())).expect("opened")
    });
    let mut near = block_on(MessageCarrier::open(near, Role::Connector, MessageConfig::default())).expect("opened");
    let mut far = opening.join().expect("the other end");
    let data: Vec<u8> = (0..100_000).map(|i| i as u8).collect();
    let mut rounds = |rounds: usize| {
        for round in 0..rounds {
            let len = [0, 1, 64, 4088, 4089, 30_000, 100_000][round % 7];
            pass(&mut near, &mut far, &data[..len]);
            pass(&mut far, &mut near, &data[..len]);
        }
    };
    // What is put together from segments is put together in memory that the first ones leave behind.
    rounds(21);
    let info = measure(|| rounds(70));
    assert_eq!(info.count_total, 0, "{info:?}");
}

/// Carriers of one sort at both ends of a track between the fabrics.
fn carriers<C>(near: &VerbsFabric, far: &VerbsFabric, config: impl Fn(&VerbsFabric) -> C::Config) -> (C, C)
where
    C: Carrier<Track = ReliableTrack, Error: std::fmt::Debug> + Send + 'static,
    C::Config: Send + 'static,
{
    let (one, other) = tracks(near, far);
    let theirs = config(far);
    let opening = std::thread::spawn(move || block_on(C::open(other, Role::Acceptor, theirs)).expect("opened"));
    let one = block_on(C::open(one, Role::Connector, config(near))).expect("opened");
    (one, opening.join().expect("the other end"))
}

fn tracks(near: &VerbsFabric, far: &VerbsFabric) -> (ReliableTrack, ReliableTrack) {
    let mut listener = far.listen(&std::net::SocketAddr::new(rdma::addresses().1, 0)).expect("a listener");
    let connecting = near.connect(&listener.local());
    block_on(async {
        let accepted = listener.incoming().await.expect("a request").accept().await.expect("accepted");
        (connecting.await.expect("connected"), accepted)
    })
}

fn fabrics() -> (VerbsFabric, VerbsFabric) {
    let (near, far) = rdma::addresses();
    let config = VerbsConfig::default().with_slots(4096, 16, 16);
    (rdma::fabric(near, config.clone()), rdma::fabric(far, config))
}

#[test]
fn bytes_of_a_stream_allocate_nothing() {
    needs_rdma!();
    let (near, far) = fabrics();
    let (near, far) = carriers::<StreamCarrier<ReliableTrack>>(&near, &far, |_| StreamConfig::default());
    let ((mut read, mut write), (mut peer_read, mut peer_write)) = (near.into_split(), far.into_split());
    let data: Vec<u8> = (0..100_000).map(|i| i as u8).collect();
    let mut rounds = |rounds: usize| {
        for round in 0..rounds {
            let data = &data[..[1, 64, 4088, 4089, 30_000, 100_000][round % 6]];
            for (to, from) in [(&mut write, &mut peer_read), (&mut peer_write, &mut read)] {
                let (mut sent, mut heard) = (0, 0);
                while heard < data.len() {
                    match to.try_put(&data[sent..]) {
                        Ok(put) => sent += put,
                        Err(TryError::WouldBlock) => {}
                        Err(TryError::Failed(error)) => panic!("{error}"),
                    }
                    match from.try_fill() {
                        Ok(bytes) => {
                            let len = bytes.len();
                            assert!(*bytes == data[heard..heard + len]);
                            heard += len;
                            from.consume(len);
                        }
                        Err(TryError::WouldBlock) => std::thread::yield_now(),
                        Err(TryError::Failed(error)) => panic!("{error}"),
                    }
                }
            }
        }
    };
    rounds(18);
    let info = measure(|| rounds(60));
    assert_eq!(info.count_total, 0, "{info:?}");
}

/// How long what is lent is.
const LENT: usize = 100_000;

/// What it takes to lend memory, read it at the other end into memory of its own, and take it back: by hand.
fn by_hand(near: &VerbsFabric, far: &VerbsFabric) -> u64 {
    let (_near_track, mut far_track) = tracks(near, far);
    let mut lent = Some(near.alloc(LENT).expect("memory"));
    let mut rounds = |rounds: usize| {
        for _ in 0..rounds {
            let memory = lent.take().expect("it came back").share();
            let window = memory.export(0..LENT, Access::ReadOnly).expect("a window");
            let there = RemoteWindow::decode(&window.remote().encode()).expect("a window");
            let permit = far_track.try_fetch_permit().expect("a permit");
            let into = far.alloc(LENT).expect("memory");
            far_track.read(permit, into, 0, there.slice(0, LENT).expect("inside"), 0).expect("queued");
            far_track.flush().expect("flushed");
            drop(memory_of(completed(&mut far_track)));
            window.revoke().expect("revoked");
            lent = memory.reclaim().ok();
        }
    };
    rounds(10);
    measure(|| rounds(50)).count_total
}

/// The carrier itself allocates nothing: what there is are the fabric's windows, and its memory to read into.
#[test]
fn a_message_that_is_lent_allocates_what_its_window_does() {
    needs_rdma!();
    let (near, far) = fabrics();
    let by_hand = by_hand(&near, &far);
    let config = |fabric: &VerbsFabric| RendezvousConfig::new(fabric.clone()).with_lend_from(8192);
    let (one, other) = carriers::<RendezvousCarrier<VerbsFabric>>(&near, &far, config);
    let ((mut sender, _theirs), (_ours, mut receiver)) = (one.split(), other.split());
    let mut region = Some(sender.alloc(LENT).expect("memory"));
    let mut rounds = |rounds: usize| {
        for _ in 0..rounds {
            let mut lent = region.take().expect("it came back");
            while let Err(error) = sender.try_send_region(lent, 0..LENT) {
                match error {
                    TryRegionError::WouldBlock(back) => lent = back,
                    TryRegionError::Failed(error) => panic!("{error}"),
                }
                std::thread::yield_now();
            }
            sender.flush().expect("flushed");
            loop {
                match receiver.try_recv() {
                    Ok(message) => break assert!(message.expect("a message").was_lent()),
                    Err(TryError::WouldBlock) => std::thread::yield_now(),
                    Err(TryError::Failed(error)) => panic!("{error}"),
                }
            }
            region = loop {
                match sender.try_returned() {
                    None => std::thread::yield_now(),
                    back => break back,
                }
            };
        }
    };
    rounds(10);
    let info = measure(|| rounds(50));
    assert_eq!(info.count_total, by_hand, "{info:?}");
    println!(
        "{} allocations for 50 messages that were lent: the windows and the memory of the fabric",
        info.count_total
    );
}
