//! Messages one way over many links at once, between two ends that poll.

use std::error::Error;

use trespass::core::{Drive, block_on};

use crate::clock::{Clock, Report, expect, pause};
use crate::link::{Link, Result};
use crate::options::{Options, Side};
use crate::talk::{recv_polling, send_polling};

pub(crate) fn run<L: Link, D: Drive>(
    mut links: Vec<L>,
    driver: &mut D,
    options: &Options,
) -> std::result::Result<(), Box<dyn Error>> {
    let report = match options.side {
        Side::Client => pour(&mut links, options)?,
        Side::Server => drain(&mut links, options)?,
    };
    report.print();
    for mut link in links {
        // The other end may be the first to go, which makes this end's close a failure that means nothing here.
        let _ = block_on(driver, link.close());
    }
    Ok(())
}

fn pour<L: Link>(links: &mut [L], options: &Options) -> Result<Report, L> {
    let mut clock = Clock::new(0);
    let mut sent = vec![0; links.len()];
    let total = options.warmup + options.count;
    for upto in [options.warmup, total] {
        clock.start();
        while sent.iter().any(|sent| *sent < upto) {
            let mut any = false;
            for (link, sent) in links.iter_mut().zip(&mut sent) {
                // As ib_send_bw does: as many as go, a doorbell for each.
                while *sent < upto && link.try_send(options.size, *sent)? {
                    link.flush()?;
                    *sent += 1;
                    any = true;
                }
            }
            if !any {
                pause();
            }
        }
    }
    // All that went over the others was received before this comes.
    expect(total, recv_polling(&mut links[0])?);
    Ok(clock.stop(options.count * links.len() as u64))
}

fn drain<L: Link>(links: &mut [L], options: &Options) -> Result<Report, L> {
    let mut clock = Clock::new(0);
    let mut received = vec![0; links.len()];
    let total = options.warmup + options.count;
    for upto in [options.warmup, total] {
        clock.start();
        while received.iter().any(|received| *received < upto) {
            let mut any = false;
            for (link, received) in links.iter_mut().zip(&mut received) {
                while *received < total {
                    let Some(number) = link.try_recv()? else { break };
                    expect(*received, number);
                    *received += 1;
                    any = true;
                }
            }
            if !any {
                pause();
            }
        }
    }
    send_polling(&mut links[0], &Options { size: 8, ..options.clone() }, total)?;
    links[0].flush()?;
    Ok(clock.stop(options.count * links.len() as u64))
}
