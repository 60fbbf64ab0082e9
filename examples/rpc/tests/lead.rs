//! Who looks after the connection, poll by poll: an order in which one that had promised to come again ends instead.
#![cfg(feature = "mock")]

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use trespass::core::{Fabric, WakerSlot};
use trespass::mock::MockFabric;
use trespass_example_rpc::{Channel, ChannelConfig, Router, RpcServer, ServeConfig, methods};

methods! {
    /// Answers at once.
    Now = 1, "test.now": unary(()) -> ();
    /// Answers when it is let.
    Later = 2, "test.later": unary(()) -> ();
}

/// Whether somebody was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn poll<T>(future: Pin<&mut impl Future<Output = T>>, flag: &Arc<Flag>) -> Poll<T> {
    flag.0.store(false, Ordering::Relaxed);
    future.poll(&mut Context::from_waker(&Waker::from(Arc::clone(flag))))
}

/// Polls it until it has nothing more to do.
fn settle<T>(mut future: Pin<&mut impl Future<Output = T>>) {
    for _ in 0..20 {
        assert!(poll(future.as_mut(), &Arc::default()).is_pending());
    }
}

#[test]
fn one_that_counted_on_another_which_ends_is_woken() {
    let fabric = MockFabric::new();
    let listener = fabric.listen(&"server".parse().expect("an address")).expect("a listener");
    let gate = Arc::new((AtomicBool::new(false), WakerSlot::new()));
    let let_through = Arc::clone(&gate);
    let service = Router::new().unary(Now, |(), _| async { Ok(()) }).unary(Later, move |(), _| {
        let gate = Arc::clone(&gate);
        poll_fn(move |cx| {
            gate.1.register(cx.waker());
            if gate.0.load(Ordering::Relaxed) { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
    });
    let mut rpc = RpcServer::new(listener, fabric.timer(), service, ServeConfig::default()).expect("good settings");
    let mut server = pin!(rpc.run());
    let channel = Channel::new(fabric, "server".parse().expect("an address"), ChannelConfig::default());
    let flags: [Arc<Flag>; 3] = Default::default();
    let (mut first, mut promising, mut counting) =
        (pin!(channel.call(Now, &())), pin!(channel.call(Now, &())), pin!(channel.call(Later, &())));

    // The connection first, by a call of its own.
    let mut warm = pin!(channel.call(Now, &()));
    while poll(warm.as_mut(), &flags[0]).is_pending() {
        settle(server.as_mut());
    }
    // The first call, and its reply on the way.
    assert!(poll(first.as_mut(), &flags[0]).is_pending());
    settle(server.as_mut());
    // The second finds it, and promises to come again; the third counts on that.
    assert!(poll(promising.as_mut(), &flags[1]).is_pending());
    assert!(flags[1].0.load(Ordering::Relaxed), "it wakes itself");
    assert!(poll(counting.as_mut(), &flags[2]).is_pending());
    // The first takes its reply, and so all that was kept goes; the second's reply comes.
    assert!(poll(first.as_mut(), &flags[0]).is_ready());
    settle(server.as_mut());
    // The second ends instead of arming anything.
    assert!(poll(promising.as_mut(), &flags[1]).is_ready());
    while flags[2].0.load(Ordering::Relaxed) {
        assert!(poll(counting.as_mut(), &flags[2]).is_pending());
    }
    let_through.0.store(true, Ordering::Relaxed);
    let_through.1.wake();
    settle(server.as_mut());
    assert!(flags[2].0.load(Ordering::Relaxed), "nobody was left to look after the connection");
    assert!(poll(counting.as_mut(), &flags[2]).is_ready());
}
