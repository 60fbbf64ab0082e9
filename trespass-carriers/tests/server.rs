//! The server, on the mock and in virtual time: who comes in, who does not, and what becomes of those that misbehave.

#[path = "support/raw.rs"]
#[allow(dead_code)]
mod raw;
#[path = "support/server.rs"]
mod support;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, ready};
use std::rc::Rc;
use std::time::Duration;

use allocation_counter::measure;
use raw::Raw;
use support::*;
use trespass_carriers::{
    Event, Excess, HandshakeError, MessageCarrier, MessageConfig, RendezvousCarrier, RendezvousConfig, Server,
    ServerConfig, ServerFault, StreamCarrier, StreamConfig,
};
use trespass_core::{Carrier as _, ErrorKind, Fabric, Role, Timer, TransportError};
use trespass_mock::{MockFabric, MockPlan, explore};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn peers_are_bounded_and_one_that_leaves_makes_room() {
    let world = World::new();
    let handle = world.echo(world.listen(ServerConfig::default().with_max_peers(2)));
    world.client("client", |client| async move {
        let (mut one, mut two) = (client.connect().await.unwrap(), client.connect().await.unwrap());
        assert_eq!(client.refused().await, ErrorKind::Busy);
        assert_eq!(client.refused().await, ErrorKind::Busy);
        exchange(&mut one, b"one").await;
        exchange(&mut two, b"two").await;
        one.close().await.unwrap();
        client.until(|| handle.stats().peers == 1).await;
        let mut three = client.connect().await.unwrap();
        exchange(&mut three, b"three").await;
        assert_eq!(client.refused().await, ErrorKind::Busy);
        // A death makes room as a goodbye does.
        drop(two);
        client.until(|| handle.stats().peers == 1).await;
        let mut four = client.connect().await.unwrap();
        exchange(&mut four, b"four").await;
        let stats = handle.stats();
        assert_eq!((stats.peers, stats.handshakes, stats.accepted), (2, 0, 4));
        assert_eq!((stats.failed, stats.turned_away), (0, 3));
        handle.drain(SECOND);
        goodbye(&mut three).await;
        goodbye(&mut four).await;
    });
    world.run();
}

#[test]
fn peers_too_many_may_wait_instead() {
    let world = World::new();
    let config = ServerConfig::default().with_max_peers(1).with_excess(Excess::Wait);
    let handle = world.echo(world.listen(config));
    let left = Rc::new(Cell::new(false));
    let has_left = Rc::clone(&left);
    let ended = handle.clone();
    world.client("first", |client| async move {
        let mut carrier = client.connect().await.unwrap();
        client.timer.sleep(10 * SECOND).await;
        left.set(true);
        carrier.close().await.unwrap();
    });
    world.client("second", |client| async move {
        client.until(|| handle.stats().peers == 1).await;
        // Its patience is longer than the first one's stay.
        let mut carrier = client.connect().await.unwrap();
        assert!(has_left.get(), "two were let in");
        exchange(&mut carrier, b"second").await;
        // And this one's is not.
        let start = client.timer.now();
        assert_eq!(client.refused().await, ErrorKind::TimedOut);
        assert!(client.timer.now() - start >= 20 * SECOND);
        assert_eq!(handle.stats().turned_away, 0);
        carrier.close().await.unwrap();
        ended.drain(SECOND);
    });
    world.run();
}

/// Peers that connect and say nothing have their time, and no more; and all others come in beside them.
#[test]
fn a_handshake_that_never_ends_keeps_nobody_waiting() {
    let world = World::new();
    let handle = world.echo(world.listen(ServerConfig::default().with_max_handshakes(4)));
    world.client("client", |client| async move {
        let start = client.timer.now();
        let mut silent = Vec::new();
        for _ in 0..3 {
            silent.push(Raw::new(client.track().await.unwrap()));
        }
        for _ in 0..10 {
            exchange(&mut client.connect().await.unwrap(), b"beside").await;
        }
        assert!(client.timer.now() - start < SECOND, "they waited");
        assert_eq!((handle.stats().handshakes, handle.stats().failed), (3, 0));
        client.until(|| handle.stats().handshakes == 0).await;
        let took = client.timer.now() - start;
        let open_timeout = MessageConfig::default().open_timeout;
        assert!(took >= open_timeout && took < open_timeout + SECOND, "{took:?}");
        assert_eq!(handle.stats().failed_with(ErrorKind::TimedOut), 3);
        assert!(silent.iter_mut().all(Raw::is_closed));
        handle.drain(SECOND);
    });
    world.run();
}

/// Where there are as many as may be, the next waits for the first that ends: it is not turned away.
#[test]
fn handshakes_too_many_wait_in_the_queue() {
    let world = World::new();
    let handle = world.echo(world.listen(ServerConfig::default().with_max_handshakes(2)));
    world.client("client", |client| async move {
        let _silent = [client.track().await.unwrap(), client.track().await.unwrap()];
        let start = client.timer.now();
        let mut carrier = client.connect().await.unwrap();
        assert!(client.timer.now() - start >= MessageConfig::default().open_timeout - SECOND, "three at once");
        exchange(&mut carrier, b"in").await;
        assert_eq!((handle.stats().turned_away, handle.stats().failed), (0, 2));
        handle.drain(SECOND);
        goodbye(&mut carrier).await;
    });
    world.run();
}

/// What a peer may take at most of [`tracks`] with a carrier of `config`.
fn bytes_of(config: &MessageConfig) -> usize {
    MessageCarrier::<trespass_mock::MockTrack>::most_memory(config) + (8 + 8) * 256
}

#[test]
fn memory_is_bounded_by_what_peers_may_take() {
    let world = World::new();
    let carrier = MessageConfig::default().with_max_message(4096).with_spill_limit(1024).with_pool_limit(1024);
    let each = bytes_of(&carrier);
    // Room for two, and nearly for a third.
    let config = ServerConfig::default().with_max_memory(3 * each - 1);
    let handle = world.echo(world.listen_with(config, carrier));
    world.client("client", |client| async move {
        let (one, mut two) = (client.connect().await.unwrap(), client.connect().await.unwrap());
        assert_eq!(handle.stats().memory, 2 * each);
        assert_eq!(client.refused().await, ErrorKind::Busy);
        drop(one);
        client.until(|| handle.stats().peers == 1).await;
        assert_eq!(handle.stats().memory, each);
        let mut three = client.connect().await.unwrap();
        assert_eq!(client.refused().await, ErrorKind::Busy);
        exchange(&mut two, b"two").await;
        exchange(&mut three, b"three").await;
        handle.drain(SECOND);
        goodbye(&mut two).await;
        goodbye(&mut three).await;
        client.until(|| handle.stats().memory == 0).await;
    });
    world.run();
}

/// How large tracks are a server learns from the first: where not even that fits, its peer is cut off, and the reason told.
#[test]
fn a_track_for_which_there_is_no_memory_is_told_of() {
    let world = World::new();
    let carrier = MessageConfig::default().with_max_message(4096).with_spill_limit(1024).with_pool_limit(1024);
    let have = bytes_of(&carrier) - 1;
    let mut server = world.listen_with(ServerConfig::default().with_max_memory(have), carrier.clone());
    world.sim.spawn("server", async move {
        let Some(Event::Failed { peer, error }) = server.event().await.unwrap() else { panic!("it was let in") };
        assert_eq!(error, HandshakeError::Memory { need: have + 1, left: have });
        assert_eq!((error.kind(), peer.incarnation), (ErrorKind::ResourceLimit, None));
        // From now on it is known, and whoever comes is told.
        assert!(matches!(server.event().await.unwrap(), Some(Event::TurnedAway { .. })));
        assert_eq!(server.stats().memory, 0);
    });
    world.client("client", |client| async move {
        assert_eq!(client.refused().await, ErrorKind::Disconnected);
        assert_eq!(client.refused().await, ErrorKind::Busy);
    });
    world.run();
}

#[test]
fn settings_that_will_not_do_are_named() {
    let fabric = MockFabric::new();
    let new = |config| {
        let listener = fabric.listen(&addr()).unwrap();
        let server: Result<MessageServer, _> = Server::new(listener, fabric.timer(), config, MessageConfig::default());
        server.expect_err("it will not do")
    };
    let config = ServerConfig::default;
    assert_eq!(new(config().with_max_peers(0)), ServerFault::MaxPeers(0));
    assert_eq!(new(config().with_max_peers((1 << 16) + 1)), ServerFault::MaxPeers((1 << 16) + 1));
    assert_eq!(new(config().with_max_handshakes(0)), ServerFault::MaxHandshakes);
    let fault = new(config().with_max_memory(1000));
    assert!(matches!(fault, ServerFault::MaxMemory { have: 1000, need } if need > 1000), "{fault:?}");
    assert_eq!(fault.kind(), ErrorKind::Config);
}

/// What a carrier may take grows with each of its settings, and never overflows.
#[test]
fn every_carrier_says_what_it_may_take() {
    type Message = MessageCarrier<trespass_mock::MockTrack>;
    let config = MessageConfig::default();
    let of = |config: &MessageConfig| Message::most_memory(config);
    assert!(of(&config) >= config.spill_limit + config.pool_limit + 2 * config.max_message);
    assert!(of(&config.clone().with_spill_limit(32 << 20)) > of(&config));
    assert!(of(&config.clone().with_pool_limit(128 << 20)) > of(&config));
    assert!(of(&config.clone().with_max_message(2 << 30)) > of(&config));
    let all = config.clone().with_spill_limit(usize::MAX).with_pool_limit(usize::MAX).with_max_message(usize::MAX);
    assert_eq!(of(&all), usize::MAX);
    let lending = RendezvousConfig::new(MockFabric::new());
    assert_eq!(RendezvousCarrier::<MockFabric>::most_memory(&lending), of(&config) + 2 * config.max_message);
    assert_eq!(StreamCarrier::<trespass_mock::MockTrack>::most_memory(&StreamConfig::default()), 0);
}

/// Peers that speak nonsense, are of another kind, or go away in the middle: each is counted for what it is, and told.
#[test]
fn peers_that_misbehave_end_alone() {
    let world = World::new();
    let mut server = world.listen(ServerConfig::default());
    let handle = server.handle();
    let failures = Rc::new(RefCell::new(Vec::new()));
    let told = Rc::clone(&failures);
    let spawner = world.sim.spawner();
    world.sim.spawn("server", async move {
        while let Some(event) = server.event().await.unwrap() {
            match event {
                Event::Accepted(accepted) => drop(spawner.spawn("echo", echo(accepted))),
                Event::Failed { peer, error } => told.borrow_mut().push((peer.addr, error.kind(), error.to_string())),
                _ => panic!("nobody is turned away"),
            }
        }
        assert!(server.drained().await.cut_off.is_empty());
    });
    world.client("client", |client| async move {
        let mut bystander = client.connect().await.unwrap();
        for garbage in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", &[0xff; 64]] {
            let mut raw = Raw::new(client.track().await.unwrap());
            assert!(raw.say(garbage));
            client.until(|| handle.stats().handshakes == 0).await;
            exchange(&mut bystander, b"after garbage").await;
        }
        let track = client.track().await.unwrap();
        let refused = StreamCarrier::open(track, Role::Connector, StreamConfig::default()).await;
        assert_eq!(refused.expect_err("it is of another kind").kind(), ErrorKind::Refused);
        drop(client.track().await.unwrap());
        client.until(|| handle.stats().failed == 5 && handle.stats().handshakes == 0).await;
        let stats = handle.stats();
        assert_eq!(stats.failed_with(ErrorKind::Protocol), 3);
        assert_eq!(stats.failed_with(ErrorKind::Refused), 1);
        assert_eq!(stats.failed_with(ErrorKind::Disconnected), 1);
        exchange(&mut bystander, b"after all").await;
        handle.drain(SECOND);
        goodbye(&mut bystander).await;
    });
    world.run();
    let failures = failures.borrow();
    let mut kinds: Vec<_> = failures.iter().map(|(_, kind, _)| *kind).collect();
    kinds.sort_by_key(|kind| *kind as usize);
    use ErrorKind::{Disconnected, Protocol, Refused};
    assert_eq!(kinds, [Refused, Disconnected, Protocol, Protocol, Protocol]);
    assert!(failures.iter().all(|(_, _, text)| !text.is_empty()));
}

/// Peers in tasks of their own keep their places by what they were given: when that is dropped the server goes on at once, lets in
/// whoever waits for the place, and ends its drain.
#[test]
fn peers_may_have_tasks_of_their_own() {
    let world = World::new();
    let mut server = world.listen(ServerConfig::default().with_max_peers(2).with_excess(Excess::Wait));
    let handle = server.handle();
    let spawner = world.sim.spawner();
    world.sim.spawn("server", async move {
        let drained = server.serve(|accepted| {
            spawner.spawn("peer", echo(accepted));
            ready(())
        });
        assert!(drained.await.unwrap().cut_off.is_empty());
    });
    let (first, second) = (Rc::new(Cell::new(false)), handle.clone());
    let leaves = Rc::clone(&first);
    world.client("those that are there", |client| async move {
        let (mut one, mut two) = (client.connect().await.unwrap(), client.connect().await.unwrap());
        exchange(&mut one, b"a task").await;
        first.set(true);
        client.timer.sleep(SECOND).await;
        one.close().await.unwrap();
        goodbye(&mut two).await;
    });
    world.client("one that waits", |client| async move {
        client.until(|| leaves.get()).await;
        let mut three = client.connect().await.unwrap();
        assert_eq!(handle.stats().peers, 2);
        exchange(&mut three, b"another").await;
        second.drain(1000 * SECOND);
        goodbye(&mut three).await;
    });
    let elapsed = world.run().elapsed;
    assert!(elapsed >= SECOND && elapsed < 2 * SECOND, "nobody waits for a deadline: {elapsed:?}");
}

/// Handlers that give their peer's place back before they end are bounded all the same.
#[test]
fn handlers_that_outlive_their_peers_are_bounded() {
    let world = World::new();
    let mut server = world.listen(ServerConfig::default().with_max_peers(2).with_excess(Excess::Wait));
    let handle = server.handle();
    let running = Rc::new(Cell::new(0));
    let most = Rc::clone(&running);
    let timer = world.sim.timer();
    world.sim.spawn("server", async move {
        let served = server.serve(|accepted| {
            let (timer, running) = (timer.clone(), Rc::clone(&running));
            async move {
                running.set(running.get() + 1);
                assert!(running.get() <= 2, "more than max_peers");
                echo(accepted).await;
                timer.sleep(3 * SECOND).await;
                running.set(running.get() - 1);
            }
        });
        assert!(served.await.unwrap().cut_off.is_empty());
    });
    world.client("client", |client| async move {
        for _ in 0..5 {
            let mut carrier = client.connect().await.unwrap();
            exchange(&mut carrier, b"short").await;
            carrier.close().await.unwrap();
        }
        handle.drain(10 * SECOND);
    });
    world.run();
    assert_eq!(most.get(), 0, "a drain waits for handlers");
}

#[test]
fn the_end_of_the_listener_ends_the_server() {
    let world = World::new();
    let mut server = world.listen(ServerConfig::default());
    let fabric = world.server.clone();
    let served = Rc::new(Cell::new(None));
    let outcome = Rc::clone(&served);
    world.sim.spawn("server", async move {
        let error = server.serve(echo).await.expect_err("the fabric is gone");
        outcome.set(Some(error.kind()));
        // It stays so.
        assert_eq!(server.accept().await.expect_err("the fabric is gone").kind(), error.kind());
    });
    world.client("client", |client| async move {
        let mut carrier = client.connect().await.unwrap();
        exchange(&mut carrier, b"before").await;
        fabric.kill();
        assert_eq!(carrier.recv().await.expect_err("it died").kind(), ErrorKind::Disconnected);
    });
    world.run();
    assert_eq!(served.get(), Some(ErrorKind::Device));
}

/// A hundred peers in one task, on links that are slow in all ways, beside some that misbehave. All that was taken is given back.
#[test]
fn a_hundred_peers() {
    explore(10, |seed| {
        let used = measure(|| {
            let world = World::of(seed, MockPlan::seeded(seed, 2));
            let handle = world.echo(world.listen(ServerConfig::default().with_max_handshakes(8)));
            let left = Rc::new(Cell::new(100));
            for number in 0..100_u8 {
                let (left, handle) = (Rc::clone(&left), handle.clone());
                world.client(&format!("client {number}"), |client| async move {
                    if number % 10 == 0 {
                        let _ = Raw::new(client.track().await.unwrap()).say(b"nonsense");
                    } else {
                        let mut carrier = client.connect().await.unwrap();
                        for round in 0..5 {
                            exchange(&mut carrier, &[number, round]).await;
                        }
                        carrier.close().await.unwrap();
                    }
                    left.set(left.get() - 1);
                    if left.get() == 0 {
                        client.until(|| handle.stats().failed == 10).await;
                        assert_eq!(handle.stats().accepted, 90);
                        handle.drain(10 * SECOND);
                    }
                });
            }
            world.run();
        });
        match used.bytes_current {
            0 => Ok(()),
            bytes => Err(format!("{bytes} bytes were not given back")),
        }
    });
}

/// Each peer is known by a number, its address, and its process.
#[test]
fn peers_have_names() {
    let world = World::new();
    let mut server = world.listen(ServerConfig::default());
    let handle = server.handle();
    let names = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&names);
    world.sim.spawn("server", async move {
        let served = server.serve(|accepted| {
            seen.borrow_mut().push(accepted.peer.identity().clone());
            assert_eq!(accepted.peer.identity().incarnation, Some(accepted.carrier.peer_incarnation()));
            echo(accepted)
        });
        assert!(served.await.unwrap().cut_off.is_empty());
    });
    world.client("client", |client| async move {
        for _ in 0..3 {
            client.connect().await.unwrap().close().await.unwrap();
        }
        handle.drain(SECOND);
    });
    world.run();
    let names = names.borrow();
    assert_eq!(names.iter().map(|name| name.id).collect::<Vec<_>>(), [0, 1, 2]);
    let incarnation = names[0].incarnation.expect("it is told in the handshake");
    assert_eq!(names[0].to_string(), format!("peer 0 at {} (process {incarnation:016x})", names[0].addr));
}

/// A server that nobody polls accepts nobody, and one that is dropped refuses; peers live on.
#[test]
fn a_server_that_is_dropped_leaves_its_peers_be() {
    let world = World::new();
    let mut server = world.listen(ServerConfig::default());
    let handle = server.handle();
    world.sim.spawn("server", async move {
        let accepted = server.accept().await.unwrap().expect("a peer");
        drop(server);
        // Nobody counts the time of a drain now: to be asked to go is to be given up.
        let cut_off = accepted.peer.until_cut_off(pending::<()>());
        let (mut cut_off, mut echoing) = (
            std::pin::pin!(cut_off),
            Box::pin(async {
                let mut carrier = accepted.carrier;
                while let Ok(Some(message)) = carrier.recv().await {
                    carrier.send(&message).await.unwrap();
                }
            }),
        );
        std::future::poll_fn(|cx| {
            let _ = echoing.as_mut().poll(cx);
            cut_off.as_mut().poll(cx)
        })
        .await;
    });
    world.client("client", |client| async move {
        let mut carrier = client.connect().await.unwrap();
        exchange(&mut carrier, b"with a server").await;
        assert_eq!(client.refused().await, ErrorKind::Refused);
        exchange(&mut carrier, b"without").await;
        handle.drain(SECOND);
        assert_eq!(carrier.recv().await.expect_err("cut off").kind(), ErrorKind::Disconnected);
    });
    world.run();
}
