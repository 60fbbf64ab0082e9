//! Each future of the server, dropped after every number of polls that it can have: nobody who was let in is lost, nothing leaks, and
//! nobody waits for ever.

#[path = "schedules/polls.rs"]
mod polls;
#[path = "support/server.rs"]
mod support;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use allocation_counter::measure;
use polls::polls;
use support::*;
use trespass_carriers::{Event, ServerConfig};
use trespass_core::{ErrorKind, Timer, TransportError};
use trespass_mock::{MockPlan, MockTimer, explore};

/// More than any of these futures takes.
const MOST: usize = 400;
const LIMIT: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_millis(3);

/// Tries `scene` with each number of polls until one is enough, for some seeds; it says whether it was. What it took is all
/// given back, to the byte.
fn at_every_poll(scene: impl Fn(u64, usize) -> bool + Sync) {
    explore(20, |seed| {
        let tried = |most: &usize| {
            let mut enough = false;
            let used = measure(|| enough = scene(seed, *most));
            assert_eq!(used.bytes_current, 0, "leaked, after {most} polls");
            enough
        };
        let enough = (1..MOST).find(tried);
        enough.map(|_| ()).ok_or("it takes more polls than were thought possible")
    });
}

fn world(seed: u64) -> World {
    World::of(seed, MockPlan::seeded(seed, 2))
}

/// `make`s a future again and again, each with so many polls, until one is ready: what it gave, and whether the first was.
async fn again_and_again<T>(most: usize, timer: &MockTimer, mut make: impl AsyncFnMut() -> T) -> (T, bool) {
    let mut first = true;
    loop {
        if let Some(output) = polls(make(), Some(most), timer).await {
            return (output, first);
        }
        first = false;
        // Others have a turn, where it is given up at once.
        timer.sleep(Duration::from_micros(5)).await;
    }
}

#[test]
fn an_accept_is_dropped_at_any_poll() {
    at_every_poll(|seed, most| {
        let world = world(seed);
        let mut server = world.listen(ServerConfig::default());
        let (handle, timer, spawner) = (server.handle(), world.sim.timer(), world.sim.spawner());
        let serving = world.sim.spawn("server", async move {
            let mut enough = true;
            for _ in 0..3 {
                // By turns in its two forms.
                let (event, first) = again_and_again(most, &timer, async || server.event().await).await;
                let Some(Event::Accepted(accepted)) = event.unwrap() else { panic!("nothing else happens") };
                spawner.spawn("peer", echo(accepted));
                enough &= first;
                let (accepted, first) = again_and_again(most, &timer, async || server.accept().await).await;
                spawner.spawn("peer", echo(accepted.unwrap().expect("no drain yet")));
                enough &= first;
            }
            while server.accept().await.unwrap().is_some() {}
            assert!(server.drained().await.cut_off.is_empty());
            enough
        });
        let left = Rc::new(Cell::new(6));
        for _ in 0..6 {
            let (left, handle) = (Rc::clone(&left), handle.clone());
            world.client("client", |client| async move {
                let mut carrier = client.connect().await.unwrap();
                exchange(&mut carrier, b"not lost").await;
                left.set(left.get() - 1);
                if left.get() == 0 {
                    handle.drain(LIMIT);
                }
                goodbye(&mut carrier).await;
            });
        }
        world.run();
        serving.output().unwrap()
    });
}

/// What runs in place goes with it, and its peers see that; handshakes under way, and the server, go on.
#[test]
fn serving_is_dropped_at_any_poll() {
    at_every_poll(|seed, most| {
        let world = world(seed);
        let mut server = world.listen(ServerConfig::default());
        let (handle, timer) = (server.handle(), world.sim.timer());
        let serving = world.sim.spawn("server", async move {
            let enough = polls(server.serve(echo), Some(most), &timer).await.is_some();
            assert!(server.serve(echo).await.unwrap().cut_off.is_empty());
            enough
        });
        let left = Rc::new(Cell::new(3));
        for _ in 0..3 {
            let (left, handle) = (Rc::clone(&left), handle.clone());
            world.client("client", |client| async move {
                // Cut off in the middle: then once more.
                loop {
                    let mut carrier = match client.connect().await {
                        Ok(carrier) => carrier,
                        Err(error) if error.kind() == ErrorKind::Disconnected => continue,
                        Err(error) => panic!("{error}"),
                    };
                    if let Err(error) = carrier.send(b"a word").await {
                        assert!(matches!(error.kind(), ErrorKind::Closed | ErrorKind::Disconnected), "{error}");
                    }
                    match carrier.recv().await {
                        Ok(Some(word)) => assert_eq!(&word[..], b"a word"),
                        Ok(None) => panic!("a goodbye without a reason"),
                        Err(error) if error.kind() == ErrorKind::Disconnected => continue,
                        Err(error) => panic!("{error}"),
                    }
                    let _ = carrier.close().await;
                    break;
                }
                left.set(left.get() - 1);
                if left.get() == 0 {
                    handle.drain(LIMIT);
                }
            });
        }
        world.run();
        serving.output().unwrap()
    });
}

/// The drain goes on whether or not it is waited for; whoever waits again is told the same.
#[test]
fn a_drain_is_dropped_at_any_poll() {
    at_every_poll(|seed, most| {
        // No faults: the others go well before the deadline, which is soon, since time is made of polls here.
        let world = World::of(seed, MockPlan::default());
        let mut server = world.listen(ServerConfig::default());
        let (timer, spawner) = (world.sim.timer(), world.sim.spawner());
        let serving = world.sim.spawn("server", async move {
            for number in 0..3 {
                let accepted = server.accept().await.unwrap().expect("no drain yet");
                match number {
                    // One that never goes by itself.
                    0 => drop(spawner.spawn("stuck", async move { accepted.peer.cut_off().await })),
                    _ => drop(spawner.spawn("peer", echo(accepted))),
                }
            }
            let mut enough = polls(server.drain(SOON), Some(most), &timer).await.is_some();
            timer.sleep(Duration::from_micros(100)).await;
            let (drained, first) = again_and_again(most, &timer, async || server.drained().await).await;
            enough &= first;
            assert_eq!(drained.cut_off.len(), 1);
            enough
        });
        for _ in 0..3 {
            world.client("client", |client| async move {
                let mut carrier = client.connect().await.unwrap();
                match carrier.recv().await {
                    Ok(None) => carrier.close().await.unwrap(),
                    Ok(Some(_)) => panic!("nobody sends"),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Disconnected),
                }
            });
        }
        let report = world.run();
        assert!(report.elapsed >= SOON);
        serving.output().unwrap()
    });
}

/// A wait for the word to stop, dropped and begun again, hears it.
#[test]
fn waits_of_a_peer_are_dropped_at_any_poll() {
    at_every_poll(|seed, most| {
        let world = world(seed);
        let mut server = world.listen(ServerConfig::default());
        let (handle, timer, spawner) = (server.handle(), world.sim.timer(), world.sim.spawner());
        let enough = Rc::new(Cell::new(false));
        let first_was = Rc::clone(&enough);
        world.sim.spawn("server", async move {
            let accepted = server.accept().await.unwrap().expect("no drain yet");
            spawner.spawn("peer", async move {
                let peer = &accepted.peer;
                let ((), draining) = again_and_again(most, &timer, async || peer.draining().await).await;
                let ((), cut_off) = again_and_again(most, &timer, async || peer.cut_off().await).await;
                first_was.set(draining && cut_off);
            });
            assert!(server.accept().await.unwrap().is_none());
            assert_eq!(server.drained().await.cut_off.len(), 1);
        });
        world.client("client", |client| async move {
            let mut carrier = client.connect().await.unwrap();
            client.timer.sleep(Duration::from_micros(50)).await;
            handle.drain(Duration::from_micros(200));
            assert_eq!(carrier.recv().await.expect_err("cut off").kind(), ErrorKind::Disconnected);
        });
        world.run();
        enough.get()
    });
}
