//! Messages one way over many tracks at once, between two ends that poll.
//!
//! Tracks that share their queues end a peer that sends more than was posted for it, so the server tells the client of what it
//! has posted, every half of a track's receives; over all tracks, whether they share or not.

use std::error::Error;

use trespass::core::{Drive, Track, block_on};

use crate::clock::{Clock, Report, expect, pause};
use crate::link::{Link, Result, TrackLink};
use crate::options::{Options, Side};

/// What the server sends when it has everything, as no number of receives.
const DONE: u64 = u64::MAX;

struct Lane<T: Track> {
    link: TrackLink<T>,
    /// Messages so far.
    count: u64,
    /// Receives that the client was told of, over time.
    told: u64,
}

pub(crate) fn run<T: Track<Error: 'static>, D: Drive>(
    tracks: Vec<T>,
    driver: &mut D,
    options: &Options,
) -> std::result::Result<(), Box<dyn Error>> {
    let lane = |track| Lane { link: TrackLink::new(track), count: 0, told: 0 };
    let mut lanes: Vec<_> = tracks.into_iter().map(lane).collect();
    let report = match options.side {
        Side::Client => pour(&mut lanes, options)?,
        Side::Server => drain(&mut lanes, options)?,
    };
    report.print();
    for mut lane in lanes {
        // The other end may be the first to go, which makes this end's close a failure that means nothing here.
        let _ = block_on(driver, lane.link.close());
    }
    Ok(())
}

fn pour<T: Track>(lanes: &mut [Lane<T>], options: &Options) -> Result<Report, TrackLink<T>> {
    let mut clock = Clock::new(0);
    let total = options.warmup + options.count;
    for upto in [options.warmup, total] {
        clock.start();
        until_all(lanes, upto, |lane| lane.fill(upto, options.size))?;
    }
    // It comes behind what was told of receives.
    while lanes[0].link.try_recv()? != Some(DONE) {
        pause();
    }
    Ok(clock.stop(options.count * lanes.len() as u64))
}

fn drain<T: Track>(lanes: &mut [Lane<T>], options: &Options) -> Result<Report, TrackLink<T>> {
    let mut clock = Clock::new(0);
    let total = options.warmup + options.count;
    let tell = options.recv_slots.div_ceil(2) as u64;
    for upto in [options.warmup, total] {
        clock.start();
        until_all(lanes, upto, |lane| lane.empty(total, tell))?;
    }
    while !lanes[0].link.try_send(8, DONE)? {
        pause();
    }
    lanes[0].link.flush()?;
    Ok(clock.stop(options.count * lanes.len() as u64))
}

/// Works on each in turn, until each has had `upto` messages. The work says whether there was any.
fn until_all<T: Track, E>(
    lanes: &mut [Lane<T>],
    upto: u64,
    mut work: impl FnMut(&mut Lane<T>) -> std::result::Result<bool, E>,
) -> std::result::Result<(), E> {
    while lanes.iter().any(|lane| lane.count < upto) {
        let mut any = false;
        for lane in &mut *lanes {
            any |= work(lane)?;
        }
        if !any {
            pause();
        }
    }
    Ok(())
}

impl<T: Track> Lane<T> {
    /// As many messages as go, a doorbell for each, as ib_send_bw has it.
    fn fill(&mut self, upto: u64, size: usize) -> Result<bool, TrackLink<T>> {
        let before = self.count;
        while self.count < upto {
            if self.count == self.told {
                match self.link.try_recv()? {
                    Some(posted) => self.told = posted,
                    None => break,
                }
            }
            if !self.link.try_send(size, self.count)? {
                break;
            }
            self.link.flush()?;
            self.count += 1;
        }
        Ok(self.count > before)
    }

    /// As many messages as there are.
    fn empty(&mut self, total: u64, tell: u64) -> Result<bool, TrackLink<T>> {
        let before = self.count;
        while self.count < total {
            self.tell(tell)?;
            let Some(number) = self.link.try_recv()? else { break };
            expect(self.count, number);
            self.count += 1;
        }
        Ok(self.count > before)
    }

    /// Says how many receives were posted, if that is so many more than was said.
    #[inline]
    fn tell(&mut self, every: u64) -> Result<(), TrackLink<T>> {
        let posted = self.link.0.posted();
        if posted - self.told >= every && self.link.try_send(8, posted)? {
            self.link.flush()?;
            self.told = posted;
        }
        Ok(())
    }
}
