//! What a user counts on, one test for each: deadlines that reach the server, cancels, bounded memory, draining, connecting again.
#![cfg(feature = "mock")]

#[path = "support/mod.rs"]
mod support;

use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;

use futures_util::future::{join_all, select};
use futures_util::pin_mut;
use support::{World, addr, ms};
use trespass::core::{ErrorKind, Fabric, Timer, within};
use trespass_example_rpc::arith::{Echo, Rest, Sum};
use trespass_example_rpc::{
    CallContext, CallError, CallOptions, Channel, ChannelConfig, Code, Ran, Rejection, Replies, Requests, Router,
    RpcServer, ServeConfig, Service, Status, methods,
};

methods! {
    /// Never ends by itself.
    Hang = 1, "test.hang": unary(()) -> ();
    /// Sends so many replies as there are numbers, of a thousand bytes each.
    Flood = 2, "test.flood": server_streaming(u64) -> Vec<u8>;
    /// Takes no request and never ends.
    Swallow = 3, "test.swallow": client_streaming(Vec<u8>) -> ();
    /// Answers at once.
    Ping = 4, "test.ping": unary(u64) -> u64;
}

/// What the handlers are at.
#[derive(Debug, Default)]
struct Seen {
    /// How many `Hang` run.
    hanging: Cell<i64>,
    /// The most that ever did at once.
    most: Cell<i64>,
    /// How many replies `Flood` has got rid of.
    flooded: Cell<u64>,
}

/// Counts a handler for as long as it lives.
struct Alive(Rc<Seen>);

impl Alive {
    fn new(seen: &Rc<Seen>) -> Self {
        seen.hanging.set(seen.hanging.get() + 1);
        seen.most.set(seen.most.get().max(seen.hanging.get()));
        Self(Rc::clone(seen))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.hanging.set(self.0.hanging.get() - 1);
    }
}

fn service(seen: &Rc<Seen>) -> impl Service + use<> {
    let (hang, flood) = (Rc::clone(seen), Rc::clone(seen));
    Router::new()
        .unary(Hang, move |(), _: CallContext| {
            let alive = Alive::new(&hang);
            async move {
                let _alive = alive;
                pending().await
            }
        })
        .server_streaming(Flood, move |count: u64, mut replies: Replies<Vec<u8>>, _| {
            let seen = Rc::clone(&flood);
            async move {
                for _ in 0..count {
                    replies.send(&vec![7; 1000]).await?;
                    seen.flooded.set(seen.flooded.get() + 1);
                }
                Ok(())
            }
        })
        .client_streaming(Swallow, |requests: Requests<Vec<u8>>, _| async move {
            let _requests = requests;
            pending().await
        })
        .unary(Ping, |number: u64, _| async move { Ok(number) })
}

/// The deadline is with the server as the time that is left; it passes at both ends.
#[test]
fn deadlines_reach_the_server() {
    let world = World::slow(1);
    let (handle, channel) = (world.serve_arith(ServeConfig::default()), world.channel(ChannelConfig::default()));
    world.run(handle, async move {
        let left =
            channel.call_with(Rest, &0, CallOptions::within(ms(300))).await.expect("a reply").expect("a deadline");
        // Up to three messages of up to 2 ms were on their way before.
        assert!((200_000..=300_000).contains(&left), "{left} µs");
        assert_eq!(channel.call_with(Rest, &0, CallOptions::without_deadline()).await, Ok(None));
        let late = channel.call_with(Rest, &500_000, CallOptions::within(ms(300))).await;
        assert_eq!(late, Err(CallError::DeadlineExceeded { ran: Ran::Maybe }));
        assert_eq!(
            channel.call_with(Rest, &0, CallOptions::within(ms(0))).await,
            Err(CallError::DeadlineExceeded { ran: Ran::No })
        );
        channel.close().await;
    });
}

/// The handler is dropped by the server's own clock where the client says nothing any more.
#[test]
fn a_deadline_drops_the_handler_without_a_word_of_the_client() {
    let (world, seen) = (World::slow(2), Rc::<Seen>::default());
    let (handle, channel) =
        (world.serve(service(&seen), ServeConfig::default()), world.channel(ChannelConfig::default()));
    let timer = world.client.timer();
    world.run(handle, async move {
        {
            let call = channel.call_with(Hang, &(), CallOptions::within(ms(300)));
            pin_mut!(call);
            let other = timer.sleep(ms(100));
            select(&mut call, other).await;
            assert_eq!(seen.hanging.get(), 1);
            // From here on nobody polls the client: no cancel goes out.
            timer.sleep(ms(250)).await;
            assert_eq!(seen.hanging.get(), 0, "the server looked at its own clock");
        }
        channel.close().await;
    });
}

#[test]
fn a_call_that_is_dropped_drops_its_handler() {
    let (world, seen) = (World::slow(3), Rc::<Seen>::default());
    let (handle, channel) =
        (world.serve(service(&seen), ServeConfig::default()), world.channel(ChannelConfig::default()));
    let timer = world.client.timer();
    world.run(handle, async move {
        let calls = (0..20).map(|_| channel.call_with(Hang, &(), CallOptions::without_deadline()));
        assert!(within(&timer, ms(100), join_all(calls)).await.is_err(), "they hang");
        // The calls are dropped by now, and nobody waits for anything.
        assert_eq!(seen.most.get(), 20);
        timer.sleep(ms(50)).await;
        assert_eq!(seen.hanging.get(), 0, "the server was told");
        // The same by streams.
        let flood = channel.server_streaming(Flood, &u64::MAX, CallOptions::without_deadline()).await.expect("begun");
        assert_eq!(channel.call(Ping, &1).await, Ok(1));
        drop(flood);
        assert_eq!(channel.call(Ping, &2).await, Ok(2));
        let flooded = seen.flooded.get();
        timer.sleep(ms(50)).await;
        assert_eq!(channel.call(Ping, &3).await, Ok(3));
        assert_eq!(seen.flooded.get(), flooded, "nobody sends any more");
        channel.close().await;
    });
}

/// So many calls are on the connection as the server said; the others wait in the channel, and past its own bound are refused.
#[test]
fn calls_in_flight_are_bounded() {
    let (world, seen) = (World::slow(4), Rc::<Seen>::default());
    let handle = world.serve(service(&seen), ServeConfig::default().with_max_calls(5));
    let channel = world.channel(ChannelConfig::default().with_max_calls(30));
    world.run(handle, async move {
        let calls = (0..40).map(|_| channel.call_with(Hang, &(), CallOptions::within(ms(200))));
        let ends = join_all(calls).await;
        assert_eq!(seen.most.get(), 5);
        assert_eq!(ends.iter().filter(|end| **end == Err(CallError::Busy)).count(), 10);
        let ran = ends.iter().filter(|end| **end == Err(CallError::DeadlineExceeded { ran: Ran::Maybe })).count();
        let never = ends.iter().filter(|end| **end == Err(CallError::DeadlineExceeded { ran: Ran::No })).count();
        assert_eq!((ran, never), (5, 25), "{ends:?}");
        // And then there is room again.
        let pings = join_all((0..30).map(|_| channel.call(Ping, &1))).await;
        assert!(pings.iter().all(|end| *end == Ok(1)));
        channel.close().await;
    });
}

/// Whoever takes no replies keeps the window, and no more; other calls of the same connection go on meanwhile.
#[test]
fn a_slow_consumer_stops_its_own_stream_alone() {
    let (world, seen) = (World::slow(5), Rc::<Seen>::default());
    let handle = world.serve(service(&seen), ServeConfig::default());
    let channel = world.channel(ChannelConfig::default().with_window(20_000));
    world.run(handle, async move {
        let mut flood = channel.server_streaming(Flood, &500, CallOptions::default()).await.expect("begun");
        for number in 0..300 {
            assert_eq!(channel.call(Ping, &number).await, Ok(number), "others go on");
        }
        // A reply counts 1002 bytes and 64; one may begin as long as there is any window; and one is in the making.
        let most = 20_000 / 1066 + 2;
        assert!((most - 1..=most).contains(&seen.flooded.get()), "{} replies were sent", seen.flooded.get());
        for _ in 0..500 {
            assert_eq!(flood.recv().await, Ok(Some(vec![7; 1000])));
        }
        assert_eq!(flood.recv().await, Ok(None));
        channel.close().await;
    });
}

#[test]
fn a_service_that_takes_no_requests_stops_their_stream_alone() {
    let (world, seen) = (World::slow(6), Rc::<Seen>::default());
    let handle = world.serve(service(&seen), ServeConfig::default().with_window(20_000));
    let channel = world.channel(ChannelConfig::default());
    let timer = world.client.timer();
    world.run(handle, async move {
        let mut swallow = channel.client_streaming(Swallow, CallOptions::default()).await.expect("begun");
        let mut sent = 0;
        while within(&timer, ms(100), swallow.send(&vec![7; 1000])).await.is_ok() {
            sent += 1;
            assert!(sent < 100, "nothing stops it");
        }
        let most = 20_000 / 1066 + 2;
        assert!((most - 1..=most).contains(&sent), "{sent} requests were sent");
        assert_eq!(channel.call(Ping, &1).await, Ok(1));
        drop(swallow);
        channel.close().await;
    });
}

#[test]
fn a_server_that_drains_finishes_what_runs_and_rejects_the_rest() {
    let world = World::slow(8);
    let (handle, channel) = (world.serve_arith(ServeConfig::default()), world.channel(ChannelConfig::default()));
    let timer = world.client.timer();
    let (draining, fabric) = (handle.clone(), world.client.clone());
    world.run(handle, async move {
        let under_way = channel.call(Rest, &200_000);
        // Its own connection, which asks anew before it can have heard.
        let other = Channel::new(fabric, addr(), ChannelConfig::default().with_seed(9));
        let rejected = async {
            assert!(other.call(Rest, &0).await.is_ok());
            timer.sleep(ms(50)).await;
            draining.drain(ms(1000));
            other.call(Rest, &0).await
        };
        let (under_way, rejected) = futures_util::future::join(under_way, rejected).await;
        assert!(under_way.is_ok(), "{under_way:?}");
        let rejected = rejected.expect_err("no server");
        assert_eq!(
            (rejected.clone(), rejected.ran(), rejected.code()),
            (CallError::Rejected(Rejection::Draining), Ran::No, Code::Unavailable)
        );
        // There is no server any more, so a call ends by its own deadline, and has not run.
        let none = channel.call_with(Rest, &0, CallOptions::within(ms(300))).await;
        assert_eq!(none, Err(CallError::DeadlineExceeded { ran: Ran::No }));
        channel.close().await;
        other.close().await;
    });
}

/// What does not end in time is cut off at the drain's limit.
#[test]
fn a_drain_ends_at_its_limit() {
    let (mut world, seen) = (World::slow(9), Rc::<Seen>::default());
    let listener = world.server.listen(&addr()).expect("a listener");
    let mut server =
        RpcServer::new(listener, world.server.timer(), service(&seen), ServeConfig::default()).expect("good");
    let (handle, timer) = (server.handle(), world.server.timer());
    let drained = world.sim.spawn("server", async move { server.run().await.expect("the listener") });
    let channel = world.channel(ChannelConfig::default());
    let began = timer.now();
    let call =
        world.sim.spawn("call", async move { channel.call_with(Hang, &(), CallOptions::without_deadline()).await });
    world.sim.spawn("drain", async move {
        timer.sleep(ms(50)).await;
        handle.drain(ms(200));
    });
    let report = world.sim.run().unwrap_or_else(|failure| panic!("{failure}"));
    assert!(report.elapsed - began < ms(1000), "{report:?}");
    assert_eq!(drained.output().expect("over").cut_off.len(), 1);
    let end = call.output().expect("over");
    assert_eq!(end, Err(CallError::Disconnected { kind: ErrorKind::Disconnected, ran: Ran::Maybe }));
}

/// A server dies and comes again: what was sent ends, and says that it may have run; what was not goes to the next.
#[test]
fn a_channel_connects_again() {
    let (mut world, seen) = (World::slow(10), Rc::<Seen>::default());
    let (server, timer) = (world.server.clone(), world.server.timer());
    let seen_by = Rc::clone(&seen);
    world.sim.spawn("servers", async move {
        for life in [100, 2000] {
            // None for half a second, before each.
            timer.sleep(ms(500)).await;
            let listener = server.listen(&addr()).expect("a listener");
            let mut rpc =
                RpcServer::new(listener, timer.clone(), service(&seen_by), ServeConfig::default()).expect("good");
            let _ = within(&timer, ms(life), rpc.run()).await;
        }
    });
    let channel = world.channel(ChannelConfig::default().with_rests(ms(5), ms(20)));
    let done = world.sim.spawn("client", async move {
        // Before there is a server at all.
        assert_eq!(channel.call(Ping, &1).await, Ok(1));
        let broken = channel.call_with(Hang, &(), CallOptions::without_deadline()).await;
        assert_eq!(broken, Err(CallError::Disconnected { kind: ErrorKind::Disconnected, ran: Ran::Maybe }));
        let again = join_all((0..10).map(|_| channel.call(Ping, &2))).await;
        assert!(again.iter().all(|end| *end == Ok(2)), "{again:?}");
        channel.close().await;
    });
    world.sim.run().unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(done.output(), Some(()));
    assert_eq!(seen.hanging.get(), 0);
}

/// How often it is tried grows less; nothing spins.
#[test]
fn a_channel_rests_longer_and_longer() {
    let mut world = World::slow(11);
    let channel = world.channel(ChannelConfig::default().with_rests(ms(10), ms(1000)));
    let done =
        world.sim.spawn("client", async move { channel.call_with(Ping, &1, CallOptions::within(ms(60_000))).await });
    let report = world.sim.run().unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(done.output(), Some(Err(CallError::DeadlineExceeded { ran: Ran::No })));
    // A minute of rests of half a second at least, once they are long: some 120 connections, a few polls each.
    assert!(report.polls < 1000, "{report:?}");
}

/// The one that looks after the connection for all goes, and another takes over; with a driver, that does.
#[test]
fn somebody_always_looks_after_the_connection() {
    for driven in [false, true] {
        let world = World::slow(12);
        let (handle, channel) = (world.serve_arith(ServeConfig::default()), world.channel(ChannelConfig::default()));
        let timer = world.client.timer();
        if driven {
            world.sim.spawn("driver", channel.drive());
        }
        for number in 0..50_u64 {
            let (channel, timer) = (channel.clone(), timer.clone());
            world.sim.spawn(format!("caller {number}"), async move {
                for turn in 0..10 {
                    let micros = number * 37 % 11 * 1000;
                    let call = channel.call_with(Rest, &micros, CallOptions::without_deadline());
                    if (number + turn) % 3 == 0 {
                        let _ = within(&timer, ms(number % 7), call).await;
                    } else {
                        assert_eq!(call.await, Ok(None));
                    }
                }
            });
        }
        world.run(handle, async move {
            timer.sleep(ms(2000)).await;
            channel.close().await;
        });
    }
}

/// What the service says is passed on as it is; what another server says, by its nearest code.
#[test]
fn errors_of_calls_become_statuses() {
    let status = Status::new(Code::NotFound, "no such thing");
    assert_eq!(Status::from(CallError::Service(status.clone())), status);
    assert_eq!(Status::from(CallError::Rejected(Rejection::Busy)).code, Code::ResourceExhausted);
}

/// A reply that is longer than the client takes is a typed end of its own, and so is a request.
#[test]
fn messages_too_long_end_their_call_alone() {
    let world = World::slow(13);
    let handle = world.serve_arith(ServeConfig::default().with_max_message(5000));
    let channel = world.channel(ChannelConfig::default().with_max_message(1000));
    world.run(handle, async move {
        assert_eq!(channel.call(Echo, &vec![0; 5000]).await, Err(CallError::TooLarge { len: 5002, max: 5000 }));
        assert_eq!(channel.call(Echo, &vec![0; 2000]).await, Err(CallError::Rejected(Rejection::BadReply)));
        assert_eq!(channel.call(Echo, &vec![0; 900]).await, Ok(vec![0; 900]));
        let mut sum = channel.client_streaming(Sum, CallOptions::default()).await.expect("begun");
        sum.send(&1).await.expect("sent");
        assert_eq!(sum.finish().await, Ok(1));
        channel.close().await;
    });
}
