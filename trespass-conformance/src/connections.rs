//! Connections: who gets one, who does not, and what a handshake leaves behind.

use std::collections::HashSet;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::thread;

use trespass_core::{
    Endpoint, ErrorKind, Fabric, Incoming, Listener, ListenerExt, RecvSide, SendSide, Timer, TransportError,
};

use crate::ends::assert_in_time;
use crate::harness::{Harness, ReliableHarness, lossless};
use crate::traffic::{
    Pair, bytes, close, exchange, expect_kind, far_end, join, listen, one_way, pair, put_flushed, receive_end, stamp,
    take, try_put,
};
use crate::wait::{RecvWait, SendWait, Waits, both, poll_and_drop, poll_once};

/// A connection to an address where nobody listens fails in time, whether nobody ever did or nobody does any more.
pub fn nobody_there_fails_in_time<H: Harness>(h: &H) {
    let fabrics = h.hasty_fabrics();
    connect_fails(h, &fabrics.client, &h.vacant_addr(), &[ErrorKind::Refused, ErrorKind::Unreachable]);
    let addr = listen(h, &fabrics.server).local();
    connect_fails(h, &fabrics.client, &addr, &[ErrorKind::Refused, ErrorKind::Unreachable]);
}

/// Connects to `addr`, which must fail within the handshake deadline, and checks why.
fn connect_fails<H: Harness>(h: &H, fabric: &H::Fabric, addr: &<H::Fabric as Fabric>::Addr, allowed: &[ErrorKind]) {
    let timer = fabric.timer();
    let start = timer.now();
    let connected = h.wait(format_args!("the failure of a connect to {addr}"), fabric.connect(addr));
    let took = timer.now() - start;
    let Err(error) = connected else { panic!("connected to {addr}, where that cannot be") };
    expect_kind(&format!("a connect to {addr}"), &error, allowed);
    assert_in_time("a connect that fails", took, h.deadlines().handshake);
}

/// A request that is refused, or dropped, is refused for the peer, at once; the listener goes on.
pub fn a_refused_request_is_refused<H: Harness>(h: &H) {
    let fabrics = h.fabrics();
    let mut listener = listen(h, &fabrics.server);
    for refuse in [true, false, true] {
        let connecting = fabrics.client.connect(&listener.local());
        let answer = async {
            let incoming = listener.incoming().await.expect("a request");
            match refuse {
                true => incoming.refuse(),
                false => drop(incoming),
            }
        };
        let (connected, ()) = h.wait("a refusal", both(connecting, answer));
        let error = connected.err().expect("a refusal");
        expect_kind("a connect that is refused", &error, &[ErrorKind::Refused]);
        let (mut client, mut server) = join(h, &fabrics.client, &mut listener);
        exchange(h, &mut client, &mut server, 1);
    }
}

/// A request to which the listener is busy fails for the peer within its handshake deadline; the listener goes on, and has time for
/// the next. A fabric may have the peer come again meanwhile: each time it is told the same.
pub fn a_request_that_is_put_off_is_told<H: Harness>(h: &H) {
    let fabrics = h.hasty_fabrics();
    let mut listener = listen(h, &fabrics.server);
    for _ in 0..2 {
        let timer = fabrics.client.timer();
        let start = timer.now();
        let connecting = fabrics.client.connect(&listener.local());
        let busy = async {
            loop {
                listener.incoming().await.expect("a request").busy();
            }
        };
        let connected = h.wait("a connect to somebody busy", first(connecting, busy));
        let error = connected.err().expect("nobody accepted");
        // One that has no word for it may say no.
        expect_kind("a connect to somebody busy", &error, &[ErrorKind::Busy, ErrorKind::Refused]);
        assert_in_time("a connect to somebody busy", timer.now() - start, h.deadlines().handshake);
        fresh_connection(h, &fabrics.client, &mut listener);
    }
}

/// `future`, beside another that has no end.
async fn first<F: Future>(future: F, beside: impl Future<Output = Infallible>) -> F::Output {
    let (mut future, mut beside) = (pin!(future), pin!(beside));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(output),
        Poll::Pending => match beside.as_mut().poll(cx) {
            Poll::Ready(never) => match never {},
            Poll::Pending => Poll::Pending,
        },
    })
    .await
}

/// A connect that nobody answers ends with `TimedOut` at the handshake deadline: whether the request was never taken, or
/// taken and kept. Meanwhile others connect.
pub fn an_unanswered_connect_times_out<H: Harness>(h: &H) {
    let fabrics = h.hasty_fabrics();
    let silent = listen(h, &fabrics.server);
    connect_fails(h, &fabrics.client, &silent.local(), &[ErrorKind::TimedOut]);
    drop(silent);

    let mut listener = listen(h, &fabrics.server);
    let timer = fabrics.client.timer();
    let start = timer.now();
    let connecting = fabrics.client.connect(&listener.local());
    let kept = h.wait("a request", listener.incoming()).expect("a request");
    let (mut client, mut server) = join(h, &fabrics.client, &mut listener);
    exchange(h, &mut client, &mut server, 1);
    let error = h.wait("the failure of a connect that nobody answers", connecting).err().expect("a failure");
    expect_kind("a connect that nobody answers", &error, &[ErrorKind::TimedOut]);
    assert_in_time("a connect that nobody answers", timer.now() - start, h.deadlines().handshake);
    // Too late: this yields no track, or one that has ended.
    if let Ok(mut late) = h.wait("an accept that comes too late", kept.accept()) {
        far_end(h, &mut late);
    }
    exchange(h, &mut client, &mut server, 3);
}

/// A handshake that is dropped after any number of polls, on either side, leaves nothing behind: the next works.
pub fn a_dropped_handshake_leaves_nothing<H: Harness>(h: &H) {
    let fabrics = h.fabrics();
    let mut listener = listen(h, &fabrics.server);
    let (mut client, mut server) = join(h, &fabrics.client, &mut listener);
    for round in 0..h.many(12) {
        let polls = round % 4;
        // By the client, before or while the server answers.
        drop(poll_and_drop(fabrics.client.connect(&listener.local()), polls));
        fresh_connection(h, &fabrics.client, &mut listener);
        // By the server, with the request in hand, and with the accept begun.
        let connecting = fabrics.client.connect(&listener.local());
        let incoming = h.wait("a request", listener.incoming()).expect("a request");
        match round % 2 {
            0 => drop(incoming),
            _ => drop(poll_and_drop(incoming.accept(), polls)),
        }
        // It fails, or yields a track that ends: never one that hangs.
        if let Ok(mut orphan) = h.wait("the end of a connect that the server gave up", connecting) {
            far_end(h, &mut orphan);
        }
        fresh_connection(h, &fabrics.client, &mut listener);
        exchange(h, &mut client, &mut server, 1);
    }
}

/// Connects, and serves whatever requests come until the one that works has come: those of connects that were dropped
/// may still be in the queue.
fn fresh_connection<H: Harness>(h: &H, client: &H::Fabric, listener: &mut <H::Fabric as Fabric>::Listener) {
    if !lossless::<H>() {
        return fresh_datagrams(h, client, listener);
    }
    let addr = listener.local();
    let hello = 77;
    h.wait("a connection after dropped ones", async {
        let connected = async {
            let mut track = client.connect(&addr).await.unwrap_or_else(|error| panic!("cannot connect: {error}"));
            put_flushed(&mut track, hello, 8).await;
            take(&mut track, hello, 8).await;
        };
        let served = async {
            loop {
                let incoming =
                    listener.incoming().await.unwrap_or_else(|error| panic!("a listener has ended: {error}"));
                let Ok(mut track) = incoming.accept().await else { continue };
                // A track whose peer is gone ends without a word.
                let Ok(buf) = track.recv().await else { continue };
                crate::traffic::check(&buf, hello, 8);
                put_flushed(&mut track, hello, 8).await;
                // The answer is on its way before the track goes.
                drop(track.close().await);
                return;
            }
        };
        both(connected, served).await
    });
}

/// The same where a hello may be lost, and no track says that its peer is gone: says it until one that was accepted has it.
fn fresh_datagrams<H: Harness>(h: &H, client: &H::Fabric, listener: &mut <H::Fabric as Fabric>::Listener) {
    let (hello, len) = (78, 8);
    let mut connecting = Box::pin(client.connect(&listener.local()));
    let (mut connected, mut accepting, mut accepted) = (None, Vec::new(), Vec::new());
    h.spin("a connection after dropped ones", || {
        if let Some(incoming) = poll_once(|cx| listener.poll_incoming(cx)) {
            let incoming = incoming.unwrap_or_else(|error| panic!("a listener has ended: {error}"));
            accepting.push(Box::pin(incoming.accept()));
        }
        accepting.retain_mut(|accept| {
            let result = poll_once(|cx| accept.as_mut().poll(cx));
            let waits = result.is_none();
            accepted.extend(result.and_then(Result::ok));
            waits
        });
        if connected.is_none() {
            let track = poll_once(|cx| connecting.as_mut().poll(cx))?;
            connected = Some(track.unwrap_or_else(|error| panic!("cannot connect: {error}")));
        }
        let track = connected.as_mut()?;
        if try_put(track, hello, len) {
            track.flush().expect("a flush");
        }
        let heard = |track: &mut <H::Fabric as Fabric>::Track| {
            track.try_recv().is_ok_and(|buf| buf.iter().copied().eq(bytes(hello, len)))
        };
        accepted.iter_mut().any(heard).then_some(())
    });
}

/// Connections made at once, to two listeners, do not cross: each leads where it was meant to, both ways, and addresses say
/// who is who.
pub fn connections_at_once_do_not_cross<H: ReliableHarness>(h: &H) {
    let fabrics = h.fabrics();
    let count = 2 * h.many(4).max(2) as u64;
    let mut listeners = [listen(h, &fabrics.server), listen(h, &fabrics.server)];
    let addrs = [listeners[0].local(), listeners[1].local()];
    thread::scope(|scope| {
        for id in 0..count {
            let (client, addr) = (fabrics.client.clone(), addrs[(id % 2) as usize].clone());
            scope.spawn(move || {
                let track = h.wait("one of many connections", client.connect(&addr));
                let mut track = track.unwrap_or_else(|error| panic!("client {id} cannot connect: {error}"));
                assert_eq!(track.peer(), addr, "the peer that a track names is not the address that was connected to");
                let name = track.local().to_string();
                let mut buf = h.wait("a slot", track.reserve(8 + name.len())).expect("a slot");
                buf[..8].copy_from_slice(&id.to_le_bytes());
                buf[8..].copy_from_slice(name.as_bytes());
                track.send(buf).expect("a send");
                track.flush().expect("a flush");
                // The answer is meant for this one.
                drop(h.wait("the answer to one of many", take(&mut track, id, 100)));
                receive_end(h, &mut track);
            });
        }
        let mut seen = HashSet::new();
        let mut tracks = Vec::new();
        for (parity, listener) in (0..).zip(&mut listeners) {
            for _ in 0..count / 2 {
                let incoming = h.wait("a request", listener.incoming()).expect("a request");
                let asked = incoming.peer();
                let track =
                    h.wait("an accept", incoming.accept()).unwrap_or_else(|error| panic!("cannot accept: {error}"));
                assert_eq!(track.peer(), asked, "a track and its request name different peers");
                assert_eq!(
                    track.local(),
                    addrs[parity as usize],
                    "an accepted track has another address than its listener"
                );
                tracks.push((parity, track));
            }
        }
        for (parity, track) in &mut tracks {
            let hello = h.wait("the name of a client", track.recv()).expect("a message");
            let (id, name) = hello.split_at(8);
            let id = u64::from_le_bytes(id.try_into().expect("eight bytes"));
            assert!(seen.insert(id), "two tracks lead to client {id}");
            assert_eq!(id % 2, *parity, "client {id} has come to the other listener");
            assert_eq!(
                name,
                track.peer().to_string().as_bytes(),
                "client {id} has another address than its track says"
            );
            h.wait("a slot for the answer", put_flushed(track, id, 100));
        }
        tracks.iter_mut().for_each(|(_, track)| close(h, track));
    });
}

/// A listener that is closed, or dropped, refuses those who come and those who wait; tracks that it gave live on.
pub fn a_closed_listener_refuses<H: Harness>(h: &H) {
    for by_drop in [false, true] {
        let Pair { mut client, mut server, mut listener, fabrics } = pair(h);
        let addr = listener.local();
        // One of them is taken, and dropped only when the listener is gone; the other waits in the queue, or is on its way.
        let asked = [fabrics.client.connect(&addr), fabrics.client.connect(&addr)];
        let taken = h.wait("a request", listener.incoming()).expect("a request");
        let mut listener = Some(listener);
        match by_drop {
            true => listener = None,
            false => listener.as_mut().into_iter().for_each(Listener::close),
        }
        drop(taken);
        let mut refused = 0;
        for connecting in asked.into_iter().chain([fabrics.client.connect(&addr)]) {
            let error = h.wait("the refusal of a closed listener", connecting).err().expect("a refusal");
            expect_kind("a connect to a closed listener", &error, &[ErrorKind::Refused, ErrorKind::Unreachable]);
            refused += usize::from(error.kind() == ErrorKind::Refused);
        }
        assert!(refused > 0, "the request that was taken and dropped was not refused");
        if let Some(listener) = &mut listener {
            for _ in 0..3 {
                let Some(Err(error)) = poll_once(|cx| listener.poll_incoming(cx)) else {
                    panic!("a closed listener does not say that it is closed")
                };
                expect_kind("poll_incoming of a closed listener", &error, &[ErrorKind::Closed]);
                listener.close();
            }
        }
        exchange(h, &mut client, &mut server, 1);
    }
}

/// An address is free again when its listener is gone; twice at once is `Busy`.
pub fn an_address_is_listened_at_once<H: Harness>(h: &H) {
    let fabrics = h.fabrics();
    let first = listen(h, &fabrics.server);
    let addr = first.local();
    let mut listener = first;
    for round in 0..4 {
        let error = fabrics.server.listen(&addr).err();
        let error = error.unwrap_or_else(|| panic!("two listeners at {addr}"));
        expect_kind("a second listener at one address", &error, &[ErrorKind::Busy]);
        let (mut client, mut server) = join(h, &fabrics.client, &mut listener);
        exchange(h, &mut client, &mut server, 1);
        // Closed or dropped; the track that it gave lives on beside the next one.
        if round % 2 == 0 {
            listener.close();
        }
        drop(listener);
        listener = fabrics.server.listen(&addr).unwrap_or_else(|error| panic!("cannot listen again: {error}"));
        assert_eq!(listener.local(), addr, "where a listener says that it listens");
        exchange(h, &mut client, &mut server, 3);
    }
}

/// What is sent right after connecting waits for its receiver, however late that polls: the handshake too goes on
/// without being polled.
pub fn an_early_message_waits<H: ReliableHarness>(h: &H) {
    let fabrics = h.fabrics();
    let mut listener = listen(h, &fabrics.server);
    for round in 0..3 {
        let connecting = fabrics.client.connect(&listener.local());
        let incoming = h.wait("a request", listener.incoming()).expect("a request");
        let accepting = incoming.accept();
        // Nobody polls the accept from here on until the client has sent all that there is room for.
        let mut client = h.wait("a connect whose accept nobody polls", connecting).expect("a connect");
        let mut sent = 0;
        while sent < client.limits().recv_slots as u64 && try_put(&mut client, sent, 40) {
            client.flush().expect("a flush");
            sent += 1;
        }
        assert!(sent > 0, "no slot on a new track");
        let closed = round == 2;
        if closed {
            close(h, &mut client);
        }
        let mut server = h.wait("an accept", accepting).unwrap_or_else(|error| panic!("cannot accept: {error}"));
        for id in 0..sent {
            drop(h.wait("an early message", take(&mut server, id, 40)));
        }
        if closed {
            receive_end(h, &mut server);
        } else {
            exchange(h, &mut client, &mut server, 100);
        }
    }
}

/// The other way round: the acceptor speaks first, before the connector has polled its connect to the end.
pub fn an_early_answer_waits<H: ReliableHarness>(h: &H) {
    let fabrics = h.fabrics();
    let mut listener = listen(h, &fabrics.server);
    let connecting = fabrics.client.connect(&listener.local());
    let incoming = h.wait("a request", listener.incoming()).expect("a request");
    // A connect whose future nobody polls goes on.
    let mut server = h.wait("an accept whose connect nobody polls", incoming.accept()).expect("an accept");
    let mut buf = h.wait("a slot", server.reserve(40)).expect("a slot");
    stamp(&mut buf, 1);
    server.send(buf).expect("a send");
    server.flush().expect("a flush");
    let mut client = h.wait("a connect", connecting).expect("a connect");
    drop(h.wait("an early answer", take(&mut client, 1, 40)));
    exchange(h, &mut client, &mut server, 2);
}

/// Tracks live on when the last handle to their fabric, and their listener, are gone.
pub fn tracks_outlive_their_fabric<H: Harness>(h: &H) {
    let Pair { mut client, mut server, listener, fabrics } = pair(h);
    drop(listener);
    drop(fabrics);
    for id in 0..h.many(50) as u64 {
        one_way(h, &mut client, &mut server, id);
        one_way(h, &mut server, &mut client, id);
    }
    close(h, &mut client);
    if let Some(error) = far_end(h, &mut server) {
        assert_eq!(error.kind(), ErrorKind::Closed, "the end of a track whose fabric is gone: {error}");
    }
}
