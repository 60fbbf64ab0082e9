//! The conversations between two ends that are alike.

use std::error::Error;
use std::ops::Range;
use std::time::Instant;

use trespass::core::{Drive, block_on};

use crate::clock::{Clock, Report, expect, pause};
use crate::link::{Link, Result};
use crate::options::{Options, Side, Wait, Work};

pub(crate) fn run<L: Link, D: Drive>(
    mut link: L,
    driver: &mut D,
    options: &Options,
) -> std::result::Result<(), Box<dyn Error>> {
    let report = match (options.work, options.side, options.wait) {
        (Work::PingPong, Side::Client, Wait::Events) => block_on(driver, ask(&mut link, options))?,
        (Work::PingPong, Side::Server, Wait::Events) => block_on(driver, answer(&mut link, options))?,
        (Work::PingPong, Side::Client, Wait::Polling) => ask_polling(&mut link, options)?,
        (Work::PingPong, Side::Server, Wait::Polling) => answer_polling(&mut link, options)?,
        (Work::Bursts, _, Wait::Polling) => bursts_polling(&mut link, options)?,
        (Work::Stream, Side::Client, Wait::Events) => block_on(driver, pour(&mut link, options))?,
        (Work::Stream, Side::Server, Wait::Events) => block_on(driver, drain(&mut link, options))?,
        (Work::Stream, Side::Client, Wait::Polling) => pour_polling(&mut link, options)?,
        (Work::Stream, Side::Server, Wait::Polling) => drain_polling(&mut link, options)?,
        _ => return Err("there is only pingpong, bursts (polling) and stream over this".into()),
    };
    report.print();
    // The other end may be the first to go, which makes this end's close a failure that means nothing here.
    let _ = block_on(driver, link.close());
    Ok(())
}

async fn ask<L: Link>(link: &mut L, options: &Options) -> Result<Report, L> {
    let mut clock = Clock::new(0);
    for number in 0..options.warmup + options.count {
        if number == options.warmup {
            clock.start();
        }
        link.send(options.size, number).await?;
        link.flush()?;
        expect(number, link.recv().await?);
    }
    Ok(clock.stop(options.count))
}

async fn answer<L: Link>(link: &mut L, options: &Options) -> Result<Report, L> {
    let mut clock = Clock::new(0);
    for number in 0..options.warmup + options.count {
        if number == options.warmup {
            clock.start();
        }
        expect(number, link.recv().await?);
        link.send(options.size, number).await?;
        link.flush()?;
    }
    Ok(clock.stop(options.count))
}

fn ask_polling<L: Link>(link: &mut L, options: &Options) -> Result<Report, L> {
    let mut clock = Clock::new(options.count);
    for number in 0..options.warmup + options.count {
        if number == options.warmup {
            clock.start();
        }
        let begin = Instant::now();
        send_polling(link, options, number)?;
        link.flush()?;
        expect(number, recv_polling(link)?);
        if number >= options.warmup {
            clock.round_trip(begin);
        }
    }
    Ok(clock.stop(options.count))
}

fn answer_polling<L: Link>(link: &mut L, options: &Options) -> Result<Report, L> {
    let mut clock = Clock::new(0);
    for number in 0..options.warmup + options.count {
        if number == options.warmup {
            clock.start();
        }
        expect(number, recv_polling(link)?);
        send_polling(link, options, number)?;
        link.flush()?;
    }
    Ok(clock.stop(options.count))
}

/// Both ends: who asks sends first.
fn bursts_polling<L: Link>(link: &mut L, options: &Options) -> Result<Report, L> {
    let mut clock = Clock::new(0);
    let asks = options.side == Side::Client;
    for turn in 0..options.warmup + options.count {
        if turn == options.warmup {
            clock.start();
        }
        let numbers = turn * options.burst..(turn + 1) * options.burst;
        if asks {
            send_all_polling(link, options, numbers.clone())?;
        }
        for number in numbers.clone() {
            expect(number, recv_polling(link)?);
        }
        if !asks {
            send_all_polling(link, options, numbers)?;
        }
    }
    Ok(clock.stop(options.count * options.burst * 2))
}

fn send_all_polling<L: Link>(link: &mut L, options: &Options, numbers: Range<u64>) -> Result<(), L> {
    for number in numbers {
        send_polling(link, options, number)?;
    }
    link.flush()
}

async fn pour<L: Link>(link: &mut L, options: &Options) -> Result<Report, L> {
    let mut clock = Clock::new(0);
    let total = options.warmup + options.count;
    for number in 0..total {
        if number == options.warmup {
            clock.start();
        }
        link.send(options.size, number).await?;
        if is_last_of_batch(number, options) {
            link.flush()?;
        }
    }
    link.flush()?;
    expect(total, link.recv().await?);
    Ok(clock.stop(options.count))
}

async fn drain<L: Link>(link: &mut L, options: &Options) -> Result<Report, L> {
    let mut clock = Clock::new(0);
    let total = options.warmup + options.count;
    for number in 0..total {
        if number == options.warmup {
            clock.start();
        }
        expect(number, link.recv().await?);
    }
    link.send(8, total).await?;
    link.flush()?;
    Ok(clock.stop(options.count))
}

fn pour_polling<L: Link>(link: &mut L, options: &Options) -> Result<Report, L> {
    let mut clock = Clock::new(0);
    let total = options.warmup + options.count;
    for number in 0..total {
        if number == options.warmup {
            clock.start();
        }
        send_polling(link, options, number)?;
        if is_last_of_batch(number, options) {
            link.flush()?;
        }
    }
    link.flush()?;
    expect(total, recv_polling(link)?);
    Ok(clock.stop(options.count))
}

fn drain_polling<L: Link>(link: &mut L, options: &Options) -> Result<Report, L> {
    let mut clock = Clock::new(0);
    let total = options.warmup + options.count;
    for number in 0..total {
        if number == options.warmup {
            clock.start();
        }
        expect(number, recv_polling(link)?);
    }
    send_polling(link, &Options { size: 8, ..options.clone() }, total)?;
    link.flush()?;
    Ok(clock.stop(options.count))
}

fn is_last_of_batch(number: u64, options: &Options) -> bool {
    (number + 1) % options.batch == 0
}

#[inline]
fn send_polling<L: Link>(link: &mut L, options: &Options, number: u64) -> Result<(), L> {
    while !link.try_send(options.size, number)? {
        // There may be slots only once what was queued is on its way.
        link.flush()?;
        pause();
    }
    Ok(())
}

#[inline]
fn recv_polling<L: Link>(link: &mut L) -> Result<u64, L> {
    loop {
        if let Some(number) = link.try_recv()? {
            return Ok(number);
        }
        pause();
    }
}
