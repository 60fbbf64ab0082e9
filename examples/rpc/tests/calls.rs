//! Calls of every shape, in simulations.
#![cfg(feature = "mock")]

#[path = "support/mod.rs"]
mod support;

use support::{World, ms};
use trespass_example_rpc::arith::{Count, Divide, Division, Echo, Sum, Totals};
use trespass_example_rpc::{CallError, CallOptions, ChannelConfig, Code, ServeConfig, Status};

#[test]
fn a_call_has_its_reply() {
    let world = World::slow(1);
    let (handle, channel) = (world.serve_arith(ServeConfig::default()), world.channel(ChannelConfig::default()));
    world.run(handle, async move {
        let division = Division { dividend: 91, divisor: 7 };
        assert_eq!(channel.call(Divide, &division).await, Ok(13));
        let status = Status::new(Code::InvalidArgument, "there is no such quotient");
        let nothing = Division { divisor: 0, ..division };
        assert_eq!(channel.call(Divide, &nothing).await, Err(CallError::Service(status)));
        for len in [0, 1, 400, 3000, 4096, 5000, 100_000, 1_000_000] {
            let bytes: Vec<u8> = (0..len).map(|at: u32| (at ^ at >> 8) as u8).collect();
            assert_eq!(channel.call(Echo, &bytes).await, Ok(bytes));
        }
        channel.close().await;
        assert_eq!(channel.call(Divide, &division).await, Err(CallError::Closed));
    });
}

#[test]
fn streams_go_both_ways() {
    let world = World::slow(2);
    let (handle, channel) = (world.serve_arith(ServeConfig::default()), world.channel(ChannelConfig::default()));
    world.run(handle, async move {
        let mut numbers = channel.server_streaming(Count, &1000, CallOptions::default()).await.expect("begun");
        for number in 0..1000 {
            assert_eq!(numbers.recv().await, Ok(Some(number)));
        }
        assert_eq!(numbers.recv().await, Ok(None));
        assert_eq!(numbers.recv().await, Ok(None));

        let mut sum = channel.client_streaming(Sum, CallOptions::default()).await.expect("begun");
        for number in 0..1000 {
            sum.send(&number).await.expect("sent");
        }
        assert_eq!(sum.finish().await, Ok(499_500));

        let (mut sink, mut totals) =
            channel.bidi_streaming(Totals, CallOptions::within(ms(5000))).await.expect("begun");
        let mut total = 0;
        for number in 0..100 {
            sink.send(&number).await.expect("sent");
            total += number;
            assert_eq!(totals.recv().await, Ok(Some(total)));
        }
        sink.finish().await.expect("said");
        assert_eq!(totals.recv().await, Ok(None));
        channel.close().await;
    });
}
