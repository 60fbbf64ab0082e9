//! How a server ends: idle, busy and stuck peers, handshakes under way, and those who come too late.

#[path = "support/server.rs"]
mod support;

use std::cell::Cell;
use std::future::{pending, ready};
use std::rc::Rc;
use std::time::Duration;

use support::*;
use trespass_carriers::{Drained, ServerConfig};
use trespass_core::{ErrorKind, Fabric, Timer, TransportError};
use trespass_mock::{MockAddr, MockError, MockTask};

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(30);

type Outcome = Result<Drained<MockAddr>, MockError>;

/// Serves in place until it is drained, each peer by its first word: `echo`, or `stuck`, which never ends. How that went.
fn serve(world: &World) -> (Handle, MockTask<Outcome>) {
    let mut server = world.listen(ServerConfig::default());
    let handle = server.handle();
    let serving = world.sim.spawn("server", async move {
        let outcome = server
            .serve(|mut accepted| async move {
                let word = accepted.carrier.recv().await.unwrap().unwrap().to_vec();
                accepted.carrier.send(&word).await.unwrap();
                match &word[..] {
                    b"stuck" => pending().await,
                    _ => echo(accepted).await,
                }
            })
            .await;
        let stats = server.stats();
        assert_eq!((stats.peers, stats.handshakes), (0, 0), "what runs in place is over with the drain");
        outcome
    });
    (handle, serving)
}

#[test]
fn idle_and_busy_peers_get_a_goodbye() {
    let world = World::new();
    let (handle, serving) = serve(&world);
    let began = Rc::new(Cell::new(Duration::ZERO));
    let (ended, start) = (Rc::new(Cell::new(0)), Rc::clone(&began));
    for _ in 0..10 {
        let ended = Rc::clone(&ended);
        world.client("idle", |client| async move {
            let mut carrier = client.connect().await.unwrap();
            exchange(&mut carrier, b"echo").await;
            goodbye(&mut carrier).await;
            ended.set(ended.get() + 1);
        });
    }
    for _ in 0..10 {
        let ended = Rc::clone(&ended);
        world.client("busy", |client| async move {
            let mut carrier = client.connect().await.unwrap();
            exchange(&mut carrier, b"echo").await;
            // It never stops by itself: all that was answered comes, then the goodbye.
            let mut answers = 0;
            loop {
                if carrier.send(b"again").await.is_err() {
                    break;
                }
                match carrier.recv().await {
                    Ok(Some(_)) => answers += 1,
                    Ok(None) => break,
                    Err(error) => panic!("no goodbye, but {error}"),
                }
            }
            assert!(answers > 0);
            let _ = carrier.close().await;
            ended.set(ended.get() + 1);
        });
    }
    world.client("operator", |client| async move {
        client.until(|| handle.stats().peers == 20).await;
        start.set(client.timer.now());
        handle.drain(LIMIT);
    });
    let report = world.run();
    assert_eq!(ended.get(), 20);
    assert!(serving.output().unwrap().unwrap().cut_off.is_empty());
    assert!(report.elapsed - began.get() < SECOND, "nobody waits for a deadline: {:?}", report.elapsed);
}

#[test]
fn stuck_peers_are_cut_off_at_the_deadline_and_named() {
    let world = World::new();
    let (handle, serving) = serve(&world);
    for _ in 0..2 {
        world.client("stuck", |client| async move {
            let mut carrier = client.connect().await.unwrap();
            exchange(&mut carrier, b"stuck").await;
            assert_eq!(carrier.recv().await.expect_err("cut off").kind(), ErrorKind::Disconnected);
        });
    }
    world.client("idle", |client| async move {
        let mut carrier = client.connect().await.unwrap();
        exchange(&mut carrier, b"echo").await;
        goodbye(&mut carrier).await;
    });
    let began = Rc::new(Cell::new(Duration::ZERO));
    let start = Rc::clone(&began);
    world.client("operator", |client| async move {
        client.until(|| handle.stats().peers == 3).await;
        start.set(client.timer.now());
        handle.drain(LIMIT);
        client.until(|| handle.stats().peers == 2).await;
        assert!(client.timer.now() - start.get() < SECOND, "the idle one goes at once");
    });
    let report = world.run();
    let drained = serving.output().unwrap().unwrap();
    assert_eq!(drained.cut_off.len(), 2);
    assert!(drained.cut_off.iter().all(|peer| peer.incarnation.is_some()), "{drained:?}");
    let took = report.elapsed - began.get();
    assert!(took >= LIMIT && took < LIMIT + SECOND, "{took:?}");
}

/// The shorter of two limits counts, from the first call on; and with none at all everybody is cut off at once.
#[test]
fn a_drain_may_be_cut_short() {
    for second in [5 * SECOND, Duration::ZERO, 2 * LIMIT] {
        let world = World::new();
        let (handle, serving) = serve(&world);
        world.client("stuck", |client| async move {
            let mut carrier = client.connect().await.unwrap();
            exchange(&mut carrier, b"stuck").await;
            assert_eq!(carrier.recv().await.expect_err("cut off").kind(), ErrorKind::Disconnected);
        });
        let began = Rc::new(Cell::new(Duration::ZERO));
        let start = Rc::clone(&began);
        world.client("operator", |client| async move {
            client.until(|| handle.stats().peers == 1).await;
            start.set(client.timer.now());
            handle.drain(LIMIT);
            client.timer.sleep(2 * SECOND).await;
            handle.drain(second);
        });
        let report = world.run();
        assert_eq!(serving.output().unwrap().unwrap().cut_off.len(), 1);
        let (took, expected) = (report.elapsed - began.get(), second.clamp(2 * SECOND, LIMIT));
        assert!(took >= expected && took < expected + SECOND, "{took:?} is not {expected:?}");
    }
}

#[test]
fn whoever_comes_during_a_drain_is_refused() {
    let world = World::new();
    let (handle, serving) = serve(&world);
    let stats = handle.clone();
    world.client("stuck", |client| async move {
        let mut carrier = client.connect().await.unwrap();
        exchange(&mut carrier, b"stuck").await;
        handle.drain(LIMIT);
        for _ in 0..3 {
            assert_eq!(client.refused().await, ErrorKind::Refused);
            client.timer.sleep(SECOND).await;
        }
    });
    world.run();
    // The stuck one has gone by itself, of which its handler will never hear.
    assert_eq!(serving.output().unwrap().unwrap().cut_off.len(), 1);
    assert_eq!((stats.stats().accepted, stats.stats().turned_away), (1, 0));
}

/// A handshake that is under way when a drain begins is done, and gets a goodbye; one that goes nowhere is given up.
#[test]
fn handshakes_under_way_get_a_goodbye_too() {
    let world = World::new();
    let (handle, serving) = serve(&world);
    let under_way = handle.clone();
    let draining = Rc::new(Cell::new(false));
    let has_begun = Rc::clone(&draining);
    world.client("slow", |client| async move {
        let track = client.track().await.unwrap();
        client.until(|| has_begun.get()).await;
        let config = trespass_carriers::MessageConfig::default();
        let opening = trespass_carriers::MessageCarrier::open(track, trespass_core::Role::Connector, config);
        goodbye(&mut opening.await.unwrap()).await;
    });
    world.client("silent", |client| async move {
        let track = client.track().await.unwrap();
        client.timer.sleep(10 * SECOND).await;
        drop(track);
    });
    world.client("operator", |client| async move {
        client.until(|| under_way.stats().handshakes == 2).await;
        handle.drain(2 * SECOND);
        draining.set(true);
    });
    world.run();
    let cut_off = serving.output().unwrap().unwrap().cut_off;
    assert_eq!(cut_off.len(), 1, "the silent one");
    assert_eq!(cut_off[0].incarnation, None);
}

/// Peers with tasks of their own are told by what they were given, at the deadline too.
#[test]
fn peers_elsewhere_are_told_when_they_are_given_up() {
    let world = World::new();
    let mut server = world.listen(ServerConfig::default());
    let handle = server.handle();
    let spawner = world.sim.spawner();
    let (told, ended) = (Rc::new(Cell::new(Duration::ZERO)), Rc::new(Cell::new(Duration::ZERO)));
    let (when_told, when_ended, timer) = (Rc::clone(&told), Rc::clone(&ended), world.sim.timer());
    let serving = world.sim.spawn("server", async move {
        server
            .serve(|accepted| {
                let (told, ended, timer) = (Rc::clone(&told), Rc::clone(&ended), timer.clone());
                spawner.spawn("peer", async move {
                    let stuck = async {
                        accepted.peer.draining().await;
                        told.set(timer.now());
                        pending::<()>().await;
                    };
                    assert_eq!(accepted.peer.until_cut_off(stuck).await, None);
                    accepted.peer.cut_off().await;
                    ended.set(timer.now());
                });
                ready(())
            })
            .await
    });
    world.client("client", |client| async move {
        let mut carrier = client.connect().await.unwrap();
        client.timer.sleep(SECOND).await;
        handle.drain(LIMIT);
        assert_eq!(carrier.recv().await.expect_err("cut off").kind(), ErrorKind::Disconnected);
    });
    world.run();
    assert_eq!(serving.output().unwrap().unwrap().cut_off.len(), 1);
    assert!(when_told.get() >= SECOND && when_told.get() < 2 * SECOND, "{when_told:?}");
    assert!(when_ended.get() - when_told.get() >= LIMIT, "{when_ended:?}");
}

/// A loop of one's own: it hears of the drain, and waits for those that it started.
#[test]
fn a_loop_of_accepts_ends_with_the_drain() {
    let world = World::new();
    let mut server = world.listen(ServerConfig::default());
    let handle = server.handle();
    let spawner = world.sim.spawner();
    let serving = world.sim.spawn("server", async move {
        while let Some(accepted) = server.accept().await.unwrap() {
            spawner.spawn("peer", echo(accepted));
        }
        let first = server.drained().await;
        assert_eq!(server.drained().await, first, "again and again");
        assert!(server.accept().await.unwrap().is_none());
        first.cut_off.len()
    });
    world.client("client", |client| async move {
        let mut carrier = client.connect().await.unwrap();
        exchange(&mut carrier, b"echo").await;
        handle.drain(LIMIT);
        goodbye(&mut carrier).await;
    });
    world.run();
    assert_eq!(serving.output(), Some(0));
}

/// The listener's address is free once the drain has begun: the next server may take over while the first one's peers go.
#[test]
fn the_next_server_may_take_over() {
    let world = World::new();
    let (handle, serving) = serve(&world);
    let (fabric, sim) = (world.server.clone(), world.sim.spawner());
    world.client("client", |client| async move {
        let mut stuck = client.connect().await.unwrap();
        exchange(&mut stuck, b"stuck").await;
        handle.drain(LIMIT);
        assert_eq!(client.refused().await, ErrorKind::Refused);
        let listener = fabric.listen(&addr()).unwrap();
        let (config, carrier) = (ServerConfig::default(), trespass_carriers::MessageConfig::default());
        let mut next: MessageServer =
            trespass_carriers::Server::new(listener, fabric.timer(), config, carrier).unwrap();
        let handle = next.handle();
        sim.spawn("next", async move { next.serve(echo).await.unwrap() });
        let mut carrier = client.connect().await.unwrap();
        exchange(&mut carrier, b"next").await;
        handle.drain(LIMIT);
        goodbye(&mut carrier).await;
    });
    world.run();
    assert_eq!(serving.output().unwrap().unwrap().cut_off.len(), 1);
}
