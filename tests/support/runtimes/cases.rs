//! What is done on each executor.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{Either, select};
use trespass::carriers::{Accepted, MessageCarrier, MessageConfig, Server, ServerConfig};
use trespass::core::{
    Fabric, InOrder, Incoming, Listener, ListenerExt, Lossless, RecvSideExt, Role, SendSide, SendSideExt, ThreadFabric,
    Timer, Track,
};

use super::{Spawner, spawn};

/// Two fabrics that reach each other, and where the first may listen.
pub(crate) type Ends<F> = (F, F, <F as Fabric>::Addr);

pub(crate) trait Dependable: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>> {}

impl<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>> Dependable for F {}

/// A message whose length and bytes follow from `number`: short ones, and some of many frames.
fn message(number: usize) -> Vec<u8> {
    vec![number as u8; if number % 10 == 9 { 40_000 } else { number % 200 }]
}

/// Opens a carrier, and answers.
async fn echo<F: Dependable>(track: F::Track) -> usize {
    answer(MessageCarrier::open(track, Role::Acceptor, MessageConfig::default()).await.expect("opened")).await
}

/// Answers everything that one client says, until it says goodbye.
async fn answer<T: Track<Delivery: Lossless + InOrder>>(mut carrier: MessageCarrier<T>) -> usize {
    let mut answered = 0;
    while let Some(message) = carrier.recv().await.expect("a message, or the end") {
        carrier.send(&message).await.expect("answered");
        answered += 1;
    }
    carrier.close().await.expect("closed");
    answered
}

/// Asks, and checks each answer.
async fn ask<F: Dependable>(fabric: &F, addr: &F::Addr, rounds: usize) {
    let track = fabric.connect(addr).await.expect("connected");
    let mut carrier = MessageCarrier::open(track, Role::Connector, MessageConfig::default()).await.expect("opened");
    for round in 0..rounds {
        carrier.send(&message(round)).await.expect("sent");
        let answer = carrier.recv().await.expect("received").expect("an answer");
        assert_eq!(answer[..], message(round)[..], "round {round}");
    }
    carrier.finish().await.expect("finished");
    assert!(carrier.recv().await.expect("the end").is_none(), "more answers than questions");
}

/// A client and a server.
pub(crate) async fn ping_pong<F: Dependable>((server, client, addr): Ends<F>, spawner: Spawner) {
    let mut listener = server.listen(&addr).expect("a listener");
    let addr = listener.local();
    let asking = spawn(&spawner, async move { ask(&client, &addr, 100).await });
    let track = listener.incoming().await.expect("a request").accept().await.expect("accepted");
    assert_eq!(echo::<F>(track).await, 100);
    asking.await;
}

/// Many clients at once, and a task at the server for each.
pub(crate) async fn many_tasks<F: Dependable>((server, client, addr): Ends<F>, spawner: Spawner) {
    const CLIENTS: usize = 8;
    let mut listener = server.listen(&addr).expect("a listener");
    let addr = listener.local();
    let mut asking = Vec::new();
    for _ in 0..CLIENTS {
        let (client, addr) = (client.clone(), addr.clone());
        asking.push(spawn(&spawner, async move { ask(&client, &addr, 15).await }));
    }
    let mut answering = Vec::new();
    for _ in 0..CLIENTS {
        let incoming = listener.incoming().await.expect("a request");
        let answer = async move { echo::<F>(incoming.accept().await.expect("accepted")).await };
        answering.push(spawn(&spawner, answer));
    }
    for task in asking {
        task.await;
    }
    for task in answering {
        assert_eq!(task.await, 15);
    }
}

/// A server that serves in place: its peers' handlers run in its own task, until it is told to drain.
pub(crate) async fn served_in_place<F: Dependable>(ends: Ends<F>, spawner: Spawner) {
    serve(ends, spawner, false).await;
}

/// A server whose handlers are tasks of their own.
pub(crate) async fn served_in_tasks<F: Dependable>(ends: Ends<F>, spawner: Spawner) {
    serve(ends, spawner, true).await;
}

async fn serve<F: Dependable>((server, client, addr): Ends<F>, spawner: Spawner, in_tasks: bool) {
    const CLIENTS: usize = 6;
    let listener = server.listen(&addr).expect("a listener");
    let addr = listener.local();
    let config = ServerConfig::default().with_max_peers(CLIENTS + 1);
    let mut serving = Server::new(listener, server.timer(), config, MessageConfig::default()).expect("a server");
    let handle = serving.handle();
    let tasks = spawner.clone();
    let served = spawn(&spawner, async move {
        let handler = move |Accepted { carrier, peer }| {
            let peer_is_served = async move {
                assert_eq!(answer(carrier).await, 12);
                drop(peer);
            };
            let here = if in_tasks {
                drop(spawn(&tasks, peer_is_served));
                None
            } else {
                Some(peer_is_served)
            };
            async move {
                if let Some(here) = here {
                    here.await;
                }
            }
        };
        serving.serve(handler).await.expect("served")
    });
    let asking = (0..CLIENTS).map(|_| {
        let (client, addr) = (client.clone(), addr.clone());
        spawn(&spawner, async move { ask(&client, &addr, 12).await })
    });
    for task in asking.collect::<Vec<_>>() {
        task.await;
    }
    handle.drain(Duration::from_secs(30));
    let drained = served.await;
    assert!(drained.cut_off.is_empty(), "{:?} did not go", drained.cut_off);
}

/// Two tracks, joined.
async fn pair<F: Dependable>((server, client, addr): Ends<F>) -> (F::Track, F::Track) {
    let mut listener = server.listen(&addr).expect("a listener");
    let connecting = client.connect(&listener.local());
    let accepted = listener.incoming().await.expect("a request").accept().await.expect("accepted");
    (connecting.await.expect("connected"), accepted)
}

async fn put<S: SendSide>(side: &mut S, number: u32) {
    let mut buf = side.reserve(4).await.expect("a slot");
    buf.copy_from_slice(&number.to_le_bytes());
    assert!(side.send(buf).is_ok(), "a reserved buffer cannot be sent");
    side.flush().expect("flushed");
}

fn number(buf: &[u8]) -> u32 {
    u32::from_le_bytes(buf.try_into().expect("four bytes"))
}

/// Each half of both tracks in a task of its own; both directions are full most of the time.
pub(crate) async fn split_halves<F: Dependable>(ends: Ends<F>, spawner: Spawner) {
    const MESSAGES: u32 = 300;
    let (client, server) = pair(ends).await;
    let (mut sending, mut receiving) = (Vec::new(), Vec::new());
    for track in [client, server] {
        let (mut sender, mut receiver) = track.split();
        sending.push(spawn(&spawner, async move {
            for id in 0..MESSAGES {
                put(&mut sender, id).await;
            }
            sender
        }));
        receiving.push(spawn(&spawner, async move {
            for id in 0..MESSAGES {
                assert_eq!(number(&receiver.recv().await.expect("a message")), id);
            }
        }));
    }
    // A close ends both directions: not before both have all.
    for task in receiving {
        task.await;
    }
    for task in sending {
        task.await.close().await.expect("closed");
    }
}

/// `future`, unless `limit` passes first on the fabric's clock.
async fn within<T: Timer, O>(timer: &T, limit: Duration, future: impl Future<Output = O>) -> Option<O> {
    let future = pin!(future);
    match select(future, timer.sleep(limit)).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(_) => None,
    }
}

/// Waits that nothing ends but the clock; what comes later is there for the next.
pub(crate) async fn timeouts<F: Dependable>(ends: Ends<F>, _: Spawner) {
    let timer = ends.0.timer();
    let (mut client, mut server) = pair::<F>(ends).await;
    for id in 0..5 {
        let began = timer.now();
        let limit = Duration::from_millis(10);
        assert!(within(&timer, limit, server.recv()).await.is_none(), "received what nobody sent");
        assert!(timer.now() - began >= limit, "the time was not over");
        put(&mut client, id).await;
        let received = within(&timer, Duration::from_secs(30), server.recv()).await.expect("in time");
        assert_eq!(number(&received.expect("a message")), id);
    }
}

/// Ready at the second poll.
async fn yield_once() {
    let mut polled = false;
    poll_fn(|cx| match std::mem::replace(&mut polled, true) {
        true => Poll::Ready(()),
        false => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

/// Ready after so many polls in vain.
async fn give_up(after: u32) {
    for _ in 0..after {
        yield_once().await;
    }
}

/// A receiver that keeps giving up, by `select`, while a sender sends: nothing is lost, and nothing comes twice.
pub(crate) async fn cancelled<F: Dependable>(ends: Ends<F>, spawner: Spawner) {
    const MESSAGES: u32 = 200;
    let (client, server) = pair::<F>(ends).await;
    let sending = spawn(&spawner, async move {
        let mut carrier =
            MessageCarrier::open(client, Role::Connector, MessageConfig::default()).await.expect("opened");
        for id in 0..MESSAGES {
            carrier.send(&id.to_le_bytes()).await.expect("sent");
            yield_once().await;
        }
        carrier.finish().await.expect("finished");
        assert!(carrier.recv().await.expect("the end").is_none());
    });
    let mut carrier = MessageCarrier::open(server, Role::Acceptor, MessageConfig::default()).await.expect("opened");
    let (mut next, mut given_up) = (0, 0);
    loop {
        let received = match select(pin!(carrier.recv()), pin!(give_up(given_up % 3))).await {
            Either::Left((received, _)) => Some(received),
            Either::Right(_) => None,
        };
        let Some(message) = received else {
            given_up += 1;
            // Others have a turn, where there is but one thread.
            yield_once().await;
            continue;
        };
        match message.expect("a message, or the end") {
            Some(message) => assert_eq!(number(&message), next),
            None => break,
        }
        next += 1;
    }
    assert_eq!(next, MESSAGES);
    assert!(given_up > 0, "nothing was cancelled: this showed nothing");
    carrier.close().await.expect("closed");
    sending.await;
}
