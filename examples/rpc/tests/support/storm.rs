//! Many calls at once, with deadlines and cancels by chance, to a server that goes and comes again: what has to hold of each, whatever
//! the fabric, the executor and the clock.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use trespass::core::{Listener, ThreadFabric, Timer, wait, within};
use trespass_example_rpc::{
    CallContext, CallError, CallOptions, Channel, ChannelConfig, Code, Ran, Router, RpcFabric, RpcServer, ServeConfig,
    Service, Status, methods,
};

methods! {
    /// Answers after a rest with the number that it was called with, twice over; odd ones by a status.
    pub(crate) Work = 1, "storm.work": unary(Job) -> Done;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) number: u64,
    pub(crate) rest_micros: u64,
    pub(crate) fails: bool,
    pub(crate) padding: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) number: u64,
    pub(crate) padding: Vec<u8>,
}

/// Chance, of a seed.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % most.max(1)
    }

    pub(crate) fn micros(&mut self, most: u64) -> Duration {
        Duration::from_micros(self.below(most))
    }
}

/// How long things take, at most, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Calls begin within this.
    pub(crate) begin: u64,
    /// A handler rests so long.
    pub(crate) rest: u64,
    /// Deadlines.
    pub(crate) deadline: u64,
    /// A server lives so long, and at least half of it.
    pub(crate) life: u64,
    /// And there is none for so long.
    pub(crate) gap: u64,
}

/// What is known of each call.
pub(crate) struct Ledger {
    /// How often its handler began.
    began: Vec<AtomicU64>,
    /// How it ended, as its caller saw it; `None` for those that were cancelled.
    ended: Mutex<Vec<(u64, Option<Result<Done, CallError>>)>>,
}

impl Ledger {
    pub(crate) fn new(calls: u64) -> Arc<Self> {
        let began = (0..calls).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { began, ended: Mutex::default() })
    }

    pub(crate) fn service<T: Timer>(self: &Arc<Self>, timer: T) -> impl Service + use<T> {
        let ledger = Arc::clone(self);
        Router::new().unary(Work, move |job: Job, _: CallContext| {
            if let Some(began) = ledger.began.get(job.number as usize) {
                began.fetch_add(1, Ordering::Relaxed);
            }
            let rest = timer.sleep(Duration::from_micros(job.rest_micros));
            async move {
                rest.await;
                match job.fails {
                    true => Err(Status::new(Code::Aborted, job.number.to_string())),
                    false => Ok(Done { number: job.number, padding: job.padding }),
                }
            }
        })
    }

    fn end(&self, number: u64, how: Option<Result<Done, CallError>>) {
        self.ended.lock().expect("nobody panicked").push((number, how));
    }

    /// What has to hold, and how many there were of each sort: replies, statuses, deadlines, connections that ended, rejections, cancels.
    pub(crate) fn judge(&self) -> Result<[usize; 6], String> {
        let mut ended = self.ended.lock().expect("nobody panicked");
        ended.sort_by_key(|(number, _)| *number);
        let numbers: Vec<u64> = ended.iter().map(|(number, _)| *number).collect();
        if numbers != (0..self.began.len() as u64).collect::<Vec<_>>() {
            return Err(format!("not every call ended once: {numbers:?}"));
        }
        let mut sorts = [0; 6];
        for (number, how) in ended.iter() {
            let began = self.began[*number as usize].load(Ordering::Relaxed);
            let (sort, good) = match how {
                None => (5, began <= 1),
                Some(Ok(done)) => {
                    (0, began == 1 && done.number == *number && !fails(*number) && done.padding == padding(*number))
                }
                Some(Err(CallError::Service(status))) => {
                    let own = status.code == Code::Aborted && status.message == number.to_string();
                    (1, began == 1 && own && fails(*number))
                }
                Some(Err(error)) => {
                    let sort = match error {
                        CallError::DeadlineExceeded { .. } => 2,
                        CallError::Disconnected { .. } => 3,
                        CallError::Rejected(_) => 4,
                        other => return Err(format!("call {number} ended with {other}")),
                    };
                    let fits = match error.ran() {
                        Ran::No => began == 0,
                        Ran::Maybe => began <= 1,
                        Ran::Yes => began == 1,
                    };
                    (sort, fits)
                }
            };
            if !good {
                return Err(format!("call {number} began {began} times and ended with {how:?}"));
            }
            sorts[sort] += 1;
        }
        Ok(sorts)
    }
}

fn fails(number: u64) -> bool {
    number % 5 == 4
}

fn padding(number: u64) -> Vec<u8> {
    // Mostly short, some in several frames.
    let len = if number % 50 == 7 { 20_000 } else { number % 100 };
    vec![number as u8; len as usize]
}

/// One call, from its beginning by chance to its end, or until its caller has had enough.
pub(crate) async fn one_call<F: RpcFabric>(
    channel: Channel<F>,
    timer: F::Timer,
    ledger: Arc<Ledger>,
    seed: u64,
    number: u64,
    pace: Pace,
) {
    let mut dice = Dice::new(seed, number);
    timer.sleep(dice.micros(pace.begin)).await;
    let job = Job { number, rest_micros: dice.below(pace.rest), fails: fails(number), padding: padding(number) };
    let options = CallOptions::within(dice.micros(pace.deadline));
    let call = channel.call_with(Work, &job, options);
    let how = match dice.below(6) {
        0 => within(&timer, dice.micros(pace.deadline), call).await.ok(),
        _ => Some(call.await),
    };
    ledger.end(number, how);
}

/// One server after another, until `over` says that it is enough: they end by a drain, or as if they had died.
pub(crate) async fn servers<F: RpcFabric>(
    fabric: F,
    ledger: Arc<Ledger>,
    listen: impl Fn(&F) -> F::Listener,
    seed: u64,
    pace: Pace,
    over: impl Fn() -> bool,
) where
    F: RpcFabric<Listener: Listener<Track = F::Track>>,
{
    let (timer, mut dice) = (fabric.timer(), Dice::new(seed, u64::MAX));
    let config = ServeConfig::default().with_max_calls(256).with_patience(Duration::from_millis(50));
    while !over() {
        let listener = listen(&fabric);
        let service = ledger.service(timer.clone());
        let mut server = RpcServer::new(listener, timer.clone(), service, config.clone()).expect("good settings");
        let handle = server.handle();
        let life = Duration::from_micros(pace.life / 2 + dice.below(pace.life / 2));
        // The future goes with the end of this statement, and all connections with it.
        let served = within(&timer, life, server.run()).await;
        assert!(served.is_err(), "nobody drains it");
        if dice.below(2) == 0 {
            // Those connections are gone; but a second life, which ends well.
            let mut draining = Box::pin(server.run());
            let _ = within(&timer, life, &mut draining).await;
            handle.drain(Duration::from_micros(pace.rest / 2));
            draining.await.expect("nothing ended the listener");
        } else {
            drop(server);
        }
        timer.sleep(dice.micros(pace.gap)).await;
    }
}

/// The same in real time: the servers on a thread, the callers on some, all on one channel. How many calls ended in each way.
pub(crate) fn on_threads<F>(server: F, client: F, addr: F::Addr, seed: u64, calls: u64) -> [usize; 6]
where
    F: RpcFabric + ThreadFabric<Listener: Listener<Track = F::Track>>,
    Channel<F>: Send + Sync,
{
    const THREADS: u64 = 4;
    const PACE: Pace = Pace { begin: 2_000_000, rest: 20_000, deadline: 200_000, life: 400_000, gap: 50_000 };
    println!("seed {seed}");
    let (ledger, over) = (Ledger::new(calls), AtomicBool::new(false));
    let channel = Channel::new(client.clone(), addr.clone(), ChannelConfig::default().with_seed(seed));
    thread::scope(|scope| {
        let (serving, done) = (Arc::clone(&ledger), &over);
        scope.spawn(move || {
            let listen = |fabric: &F| fabric.listen(&addr).expect("nobody else listens");
            wait(servers(server, serving, listen, seed, PACE, || done.load(Ordering::Relaxed)));
        });
        let callers: Vec<_> =
            (0..THREADS)
                .map(|number| {
                    let (channel, timer, ledger) = (channel.clone(), client.timer(), Arc::clone(&ledger));
                    scope.spawn(move || {
                        let numbers = (0..calls).filter(|call| call % THREADS == number);
                        wait(join_all(numbers.map(|call| {
                            one_call(channel.clone(), timer.clone(), Arc::clone(&ledger), seed, call, PACE)
                        })));
                    })
                })
                .collect();
        let ended: Vec<_> = callers.into_iter().map(|caller| caller.join()).collect();
        over.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok), "seed {seed}");
    });
    ledger.judge().unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"))
}
