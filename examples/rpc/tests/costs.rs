//! What a call costs, counted: allocations, and messages. Both ends on one thread, and an allocator that counts.
#![cfg(feature = "mock")]

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use futures_util::future::join_all;
use trespass::core::Fabric;
use trespass::mock::{MockConfig, MockFabric, MockNet};
use trespass_example_rpc::arith::{self, Divide, Division};
use trespass_example_rpc::{CallError, Channel, ChannelConfig, RpcServer, ServeConfig};

/// Polls both until the call has ended, whoever was woken.
fn both<T>(server: &mut Pin<&mut impl Future>, call: impl Future<Output = T>) -> T {
    let mut cx = Context::from_waker(Waker::noop());
    let mut call = pin!(call);
    for _ in 0..100_000 {
        if let Poll::Ready(output) = call.as_mut().poll(&mut cx) {
            return output;
        }
        assert!(server.as_mut().poll(&mut cx).is_pending(), "nobody drains it");
    }
    panic!("the call does not end");
}

#[test]
fn a_call_allocates_nothing() {
    let fabric = MockFabric::new();
    let listener = fabric.listen(&"server".parse().expect("an address")).expect("a listener");
    let service = arith::service(fabric.timer());
    let mut rpc = RpcServer::new(listener, fabric.timer(), service, ServeConfig::default()).expect("good settings");
    let mut server = pin!(rpc.run());
    // With a deadline: all calls share one alarm, which is set once.
    let channel = Channel::new(fabric, "server".parse().expect("an address"), ChannelConfig::default());
    let request = Division { dividend: 91, divisor: 7 };
    let mut calls = |count: usize| -> Result<(), CallError> {
        for _ in 0..count {
            assert_eq!(both(&mut server, channel.call(Divide, &request))?, 13);
        }
        Ok(())
    };
    calls(1000).expect("replies");
    let seen = measure(|| calls(1000).expect("replies"));
    assert_eq!(seen.count_total, 0, "{seen:?}");

    // That this would notice: a reply that is a vector is one, at both ends.
    let bytes = vec![7; 64];
    let mut echoes = || assert_eq!(both(&mut server, channel.call(arith::Echo, &bytes)).expect("a reply").len(), 64);
    (0..10).for_each(|_| echoes());
    assert!(measure(echoes).count_total >= 2);
}

/// Calls at once share messages: 64 callers in one task, each of which calls again when it has its reply.
#[test]
fn calls_at_once_share_messages() {
    let net = MockNet::new();
    let [fabric, far] = [(); 2].map(|()| net.fabric(MockConfig::default()).expect("good settings"));
    let listener = far.listen(&"server".parse().expect("an address")).expect("a listener");
    let service = arith::service(far.timer());
    let mut rpc = RpcServer::new(listener, far.timer(), service, ServeConfig::default()).expect("good settings");
    let mut server = pin!(rpc.run());
    let channel = Channel::new(fabric.clone(), "server".parse().expect("an address"), ChannelConfig::default());
    let request = Division { dividend: 91, divisor: 7 };
    let callers = join_all((0..64).map(|_| async {
        for _ in 0..100 {
            assert_eq!(channel.call(Divide, &request).await, Ok(13));
        }
    }));
    both(&mut server, callers);
    // 6400 calls, and the handshakes: more than 16 in each message.
    let (sent, answered) = (fabric.counters().sends, far.counters().sends);
    assert!(sent < 6400 / 16 && answered < 6400 / 16, "{sent} messages there, {answered} back");
}
