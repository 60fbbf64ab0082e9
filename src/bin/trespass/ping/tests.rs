//! Questions in virtual time, over a link that answers as it is told.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use trespass_core::{Drive, ErrorKind, Fabric, block_on};
use trespass_mock::{MockConfig, MockDriver, MockError, MockNet, MockTimer};

use super::echo::{Echo, Rhythm, Statistics};
use super::{DEPTH, Layer, Plan, Terms, Wait, Work};
use crate::perf::error::PerfError;
use crate::perf::link::{Link, STRANGE, Word};
use crate::perf::pace::{Gauge, Halt, Pace};
use crate::perf::session::Leader;
use crate::perf::talk::Tally;

/// Answers the questions that `answers` says, at once.
struct Scripted {
    answers: fn(u64) -> Vec<Word>,
    queue: VecDeque<Word>,
}

impl Link for Scripted {
    type Error = MockError;

    fn send(&mut self, word: Word, _: Option<&mut Context<'_>>) -> Poll<Result<(), MockError>> {
        self.queue.extend((self.answers)(word.to_number()));
        Poll::Ready(Ok(()))
    }

    fn flush(&mut self) -> Result<(), MockError> {
        Ok(())
    }

    fn recv(&mut self, _: Option<&mut Context<'_>>) -> Poll<Result<Word, MockError>> {
        self.queue.pop_front().map_or(Poll::Pending, |word| Poll::Ready(Ok(word)))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Result<(), MockError>> {
        Poll::Ready(Ok(()))
    }
}

/// Waits, and keeps an eye on nothing.
struct Alone;

impl Pace for Alone {
    async fn until<R>(&mut self, mut attempt: impl FnMut(Option<&mut Context<'_>>) -> Poll<R>) -> Result<R, Halt> {
        Ok(poll_fn(|cx| attempt(Some(cx))).await)
    }

    async fn until_within<R>(
        &mut self,
        _: Duration,
        attempt: impl FnMut(Option<&mut Context<'_>>) -> Poll<R>,
    ) -> Result<Option<R>, Halt> {
        self.until(attempt).await.map(Some)
    }

    fn run<D: Drive, F: Future>(driver: &mut D, future: F) -> F::Output {
        block_on(driver, future)
    }
}

struct Asked {
    ended: Result<(), Halt>,
    statistics: Statistics,
    text: String,
}

fn ask(rhythm: Rhythm, size: usize, answers: fn(u64) -> Vec<Word>) -> Asked {
    let (clock, mut driver) = virtual_time();
    let mut out = Vec::new();
    let mut echo = Echo::new(rhythm, "there".into(), clock, Some(&mut out));
    let terms = Terms {
        layer: Layer::Datagrams,
        work: Work::Latency,
        wait: Wait::Events,
        size,
        depth: DEPTH,
        receives: DEPTH,
        slot: 4096,
        batch: 1,
        warmup: 0,
        count: 0,
        patience: Duration::from_secs(1),
    };
    let plan = Plan::new(terms).expect("a plan");
    let mut tally = Tally::new().expect("a tally");
    let mut link = Scripted { answers, queue: VecDeque::new() };
    let ended = block_on(&mut driver, echo.lead(&mut link, &mut Alone, &plan, &Gauge::default(), &mut tally));
    let statistics = echo.statistics();
    Asked { ended, statistics, text: String::from_utf8(out).expect("text") }
}

fn virtual_time() -> (MockTimer, MockDriver) {
    let (net, driver) = MockNet::virtual_time();
    (net.fabric(MockConfig::default()).expect("a fabric").timer(), driver)
}

const SECOND: Duration = Duration::from_secs(1);

fn calmly(count: u64) -> Rhythm {
    Rhythm { count: Some(count), interval: SECOND, flood: false, wait: 2 * SECOND }
}

#[test]
fn each_question_has_its_answer_and_its_second() {
    let asked = ask(calmly(3), 64, |number| vec![Word::number(number)]);
    assert!(asked.ended.is_ok());
    let json = asked.statistics.json();
    assert_eq!((&json["sent"], &json["answered"], &json["lost"]), (&3.into(), &3.into(), &0.into()));
    assert_eq!(json["seconds"], 2.0, "the last one is not followed by a wait");
    let lines: Vec<_> = asked.text.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[2].starts_with("64 bytes from there: seq=2 time="), "{lines:?}");
}

#[test]
fn what_nobody_answers_is_lost_in_its_time() {
    let asked = ask(calmly(3), 64, |_| Vec::new());
    assert!(asked.ended.is_ok());
    let json = asked.statistics.json();
    assert_eq!((&json["sent"], &json["answered"], &json["lost"]), (&3.into(), &0.into(), &3.into()));
    assert_eq!((&json["seconds"], &json["loss_percent"], &json["rtt"]), (&4.0.into(), &100.0.into(), &().into()));
    assert_eq!(asked.text, "no answer: seq=0\nno answer: seq=1\nno answer: seq=2\n");
    assert_eq!(super::ended(Ok(()), &asked.statistics).map_err(|error| error.exit_code()), Err(1.into()));
}

#[test]
fn answers_that_nobody_waits_for_count_for_nothing() {
    // One whose time was over at that moment, or that was answered; one that was never asked for; and the one that is waited for, of
    // every second question.
    let asked = ask(calmly(4), 64, |number| {
        let answer = (number % 2 == 1).then_some(Word::number(number));
        [Word::number(number.wrapping_sub(2)), Word::number(number + 1000)].into_iter().chain(answer).collect()
    });
    assert!(asked.ended.is_ok());
    let json = asked.statistics.json();
    assert_eq!((&json["sent"], &json["answered"], &json["lost"]), (&4.into(), &2.into(), &2.into()), "{}", asked.text);
}

#[test]
fn numbers_of_short_messages_come_round() {
    let asked = ask(Rhythm { wait: SECOND / 2, ..calmly(300) }, 1, |number| vec![Word::number(number)]);
    assert_eq!(asked.statistics.json()["answered"], 300);
}

#[test]
fn a_flood_goes_as_fast_as_answers_do() {
    let flood = Rhythm { flood: true, ..calmly(1000) };
    let asked = ask(flood, 64, |number| vec![Word::number(number)]);
    assert_eq!(asked.statistics.json()["answered"], 1000);
    assert_eq!(asked.statistics.json()["seconds"], 0.0, "nobody waited");
    assert_eq!(asked.text, ".\x08".repeat(1000));
    // And every 10 ms where there are none.
    let asked = ask(Rhythm { count: Some(11), wait: SECOND, ..flood }, 64, |_| Vec::new());
    assert_eq!(asked.statistics.json()["seconds"], 1.1);
    assert_eq!(asked.text, ".".repeat(11));
}

#[test]
fn a_goodbye_ends_it() {
    let asked = ask(calmly(5), 64, |number| if number == 1 { vec![STRANGE] } else { vec![Word::number(number)] });
    assert!(matches!(asked.ended, Err(Halt::Failed(error)) if matches!(*error, PerfError::Strange)));
    assert_eq!(asked.statistics.answered(), 1);
}

#[test]
fn statistics_are_those_of_ping() {
    let text = {
        let mut all = Statistics::default();
        [1.0, 2.0, 3.0, 6.0].into_iter().for_each(|time| all.add(time));
        all.text()
    };
    assert!(text.ends_with("rtt min/avg/max/mdev = 1.0/3.0/6.0/1.9 us"), "{text}");
    let gone = PerfError::Transport { action: "asking", kind: ErrorKind::Device, why: "x".into() };
    let mut answered = Statistics::default();
    answered.add(1.0);
    assert!(super::ended(Err(gone), &answered).is_err(), "a peer that went is no success");
    assert!(super::ended(Ok(()), &answered).is_ok());
}
