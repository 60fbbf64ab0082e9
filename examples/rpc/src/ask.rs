//! What this program calls, and checks.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use trespass::core::wait;
use trespass_example_rpc::arith::{Count, Divide, Division, Echo, Sum, Totals};
use trespass_example_rpc::{CallError, CallOptions, Channel, ChannelConfig, Code, RpcFabric};

use crate::Outcome;

pub(crate) fn config() -> ChannelConfig {
    ChannelConfig::default().with_deadline(Some(Duration::from_secs(30)))
}

/// Calls every method once, then one of them many times.
pub(crate) fn ask<F: RpcFabric>(channel: &Channel<F>, calls: u64, threads: u64) -> Outcome
where
    Channel<F>: Sync,
{
    wait(each_method(channel))?;
    println!("every method says what it should");

    let began = Instant::now();
    let share = calls.div_ceil(threads);
    thread::scope(|scope| {
        let callers: Vec<_> =
            (0..threads).map(|number| scope.spawn(move || wait(echoes(channel, number, share)))).collect();
        callers.into_iter().try_for_each(|caller| caller.join().map_err(|_| "a caller panicked")?)
    })?;
    let taken = began.elapsed();
    println!(
        "{} calls by {threads} threads in {taken:.2?}: {:.0} a second",
        share * threads,
        (share * threads) as f64 / taken.as_secs_f64()
    );
    wait(channel.close());
    Ok(())
}

async fn each_method<F: RpcFabric>(channel: &Channel<F>) -> Outcome {
    let quotient = channel.call(Divide, &Division { dividend: 91, divisor: 7 }).await?;
    expect("91 / 7", quotient, 13)?;
    match channel.call(Divide, &Division { dividend: 1, divisor: 0 }).await {
        Err(CallError::Service(status)) => expect("1 / 0", status.code, Code::InvalidArgument)?,
        other => return Err(format!("1 / 0 is {other:?}").into()),
    }

    let mut numbers = channel.server_streaming(Count, &1000, CallOptions::default()).await?;
    let mut next = 0;
    while let Some(number) = numbers.recv().await? {
        expect("the next number", number, next)?;
        next += 1;
    }
    expect("how many numbers", next, 1000)?;

    let mut upload = channel.client_streaming(Sum, CallOptions::default()).await?;
    for number in 0..1000 {
        upload.send(&number).await?;
    }
    expect("the sum", upload.finish().await?, 499_500)?;

    let (mut requests, mut totals) = channel.bidi_streaming(Totals, CallOptions::default()).await?;
    for (number, total) in [(3, 3), (-5, -2), (40, 38)] {
        requests.send(&number).await?;
        expect("the sum so far", totals.recv().await?, Some(total))?;
    }
    requests.finish().await?;
    expect("the end", totals.recv().await?, None)
}

async fn echoes<F: RpcFabric>(
    channel: &Channel<F>,
    number: u64,
    count: u64,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    for turn in 0..count {
        let said = [number.to_le_bytes(), turn.to_le_bytes()].concat().repeat(4);
        let heard = channel.call(Echo, &said).await?;
        expect("an echo", heard, said)?;
    }
    Ok(())
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, is: T, wanted: T) -> Outcome {
    match is == wanted {
        true => Ok(()),
        false => Err(format!("{what} is {is:?}, not {wanted:?}").into()),
    }
}
