//! A service to try things with: a method of each shape.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use trespass::core::Timer;

use crate::{CallContext, Code, Replies, Requests, Router, Service, Status, methods};

methods! {
    /// One number divided by another.
    pub Divide = 1, "arith.divide": unary(Division) -> i64;
    /// What was said.
    pub Echo = 2, "arith.echo": unary(Vec<u8>) -> Vec<u8>;
    /// All numbers below one.
    pub Count = 3, "arith.count": server_streaming(u64) -> u64;
    /// The sum of all.
    pub Sum = 4, "arith.sum": client_streaming(i64) -> i64;
    /// The sum so far, after each.
    pub Totals = 5, "arith.totals": bidi_streaming(i64) -> i64;
    /// Answers after so many microseconds: with how many the caller had left when it began.
    pub Rest = 6, "arith.rest": unary(u64) -> Option<u64>;
}

/// What to divide by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Division {
    /// What is divided.
    pub dividend: i64,
    /// By what.
    pub divisor: i64,
}

/// The service. It takes its time from `timer`.
pub fn service<T: Timer>(timer: T) -> impl Service + use<T> {
    Router::new()
        .unary(Divide, |Division { dividend, divisor }: Division, _| async move {
            dividend.checked_div(divisor).ok_or(Status::new(Code::InvalidArgument, "there is no such quotient"))
        })
        .unary(Echo, |bytes: Vec<u8>, _| async move { Ok(bytes) })
        .server_streaming(Count, |below: u64, mut replies: Replies<u64>, _| async move {
            for number in 0..below {
                replies.send(&number).await?;
            }
            Ok(())
        })
        .client_streaming(Sum, |mut numbers: Requests<i64>, _| async move {
            let mut sum = 0_i64;
            while let Some(number) = numbers.recv().await? {
                sum = sum.checked_add(number).ok_or(overflow())?;
            }
            Ok(sum)
        })
        .bidi_streaming(Totals, |mut numbers: Requests<i64>, mut replies: Replies<i64>, _| async move {
            let mut sum = 0_i64;
            while let Some(number) = numbers.recv().await? {
                sum = sum.checked_add(number).ok_or(overflow())?;
                replies.send(&sum).await?;
            }
            Ok(())
        })
        .unary(Rest, move |micros: u64, cx: CallContext| {
            let sleep = timer.sleep(Duration::from_micros(micros));
            async move {
                let left = cx.remaining().map(|left| left.as_micros() as u64);
                sleep.await;
                Ok(left)
            }
        })
}

fn overflow() -> Status {
    Status::new(Code::OutOfRange, "the sum is too large")
}
