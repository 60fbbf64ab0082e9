//! The end that sends: one lane, over as many connections as it takes.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use trespass_core::{Fabric, Role, Timer, TransportError};

use super::pipes::Pipe;
use super::record::{self, Kind, Record};
use super::{Faults, Load, Trouble, judged, judged_handshake, within};

/// What a lane has done so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Records that were acknowledged.
    pub(crate) acked: AtomicU64,
    /// The bytes of their bodies.
    pub(crate) bytes: AtomicU64,
    /// Connections on which the desk said how far it was.
    pub(crate) sessions: AtomicU64,
    /// Whether there is a connection now.
    pub(crate) connected: AtomicBool,
    /// Connections that broke.
    pub(crate) broken: AtomicU64,
    /// Of these, how many without a word: given up after silence, with a fault since they were made.
    pub(crate) silent: AtomicU64,
    /// Tries to connect that failed.
    pub(crate) failed_connects: AtomicU64,
    /// What went wrong last.
    pub(crate) last: Mutex<String>,
}

impl Tally {
    pub(crate) fn count(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::SeqCst)
    }
}

/// What was sent, as far as it is not acknowledged.
#[derive(Default)]
struct Progress {
    acked: u64,
    digest: u32,
    /// The digest after each record that is under way, and the length of its body.
    under_way: VecDeque<(u32, usize)>,
}

impl Progress {
    /// The number of the newest record.
    fn made(&self) -> u64 {
        self.acked + self.under_way.len() as u64
    }

    fn newest_digest(&self) -> u32 {
        self.under_way.back().map_or(self.digest, |(digest, _)| *digest)
    }

    /// Everything up to `number` is acknowledged, by one who says that `digest` is the digest of it.
    fn acknowledge(&mut self, number: u64, digest: u32, tally: &Tally) -> Result<(), String> {
        if !(self.acked..=self.made()).contains(&number) {
            return Err(format!("{number} is acknowledged: {} was before, {} are made", self.acked, self.made()));
        }
        while self.acked < number {
            let (digest, len) = self.under_way.pop_front().ok_or("nothing is under way")?;
            (self.acked, self.digest) = (self.acked + 1, digest);
            tally.acked.fetch_add(1, Ordering::SeqCst);
            tally.bytes.fetch_add(len as u64, Ordering::SeqCst);
        }
        match self.digest == digest {
            true => Ok(()),
            false => Err(format!("up to {number} the desk has {digest:08x}, and {:08x} was sent", self.digest)),
        }
    }
}

/// Everything that a lane needs to go on.
pub(crate) struct Lane<P: Pipe> {
    pub(crate) fabric: P::Fabric,
    pub(crate) desk: <P::Fabric as Fabric>::Addr,
    pub(crate) load: Load,
    pub(crate) tally: Arc<Tally>,
    pub(crate) faults: Arc<Faults>,
}

impl<P: Pipe> Lane<P> {
    /// Sends until it is time, and then until all is acknowledged. How many records, and the digest of them.
    ///
    /// What is wrong panics.
    pub(crate) async fn run(self) -> (u64, u32) {
        let timer = self.fabric.timer();
        let mut progress = Progress::default();
        let mut pause = FIRST_PAUSE;
        let mut lonely_since = timer.now();
        loop {
            let before = progress.acked;
            let ended = self.session(&mut progress).await;
            if let Err(trouble) = &ended {
                *self.tally.last.lock().unwrap_or_else(PoisonError::into_inner) = trouble.to_string();
            }
            match ended {
                Ok(()) => return (progress.acked, progress.digest),
                Err(Trouble::Wrong(why)) => panic!("{}: {why}", P::NAME),
                Err(Trouble::Broken(_)) if progress.acked > before => {
                    (pause, lonely_since) = (FIRST_PAUSE, timer.now());
                }
                Err(Trouble::Broken(why)) => {
                    let lonely = timer.now().saturating_sub(lonely_since);
                    assert!(lonely < 2 * self.load.patience, "{}: no way to the desk for {lonely:?}: {why}", P::NAME);
                }
            }
            timer.sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One connection.
    async fn session(&self, progress: &mut Progress) -> Result<(), Trouble> {
        let pipe = match self.connect().await {
            Ok(pipe) => pipe,
            Err(trouble) => {
                self.tally.failed_connects.fetch_add(1, Ordering::SeqCst);
                return Err(trouble);
            }
        };
        let talked = self.talk(pipe, progress).await;
        self.tally.connected.store(false, Ordering::SeqCst);
        if let Err(Trouble::Broken(_)) = &talked {
            self.tally.broken.fetch_add(1, Ordering::SeqCst);
        }
        talked
    }

    async fn connect(&self) -> Result<(P, u64), Trouble> {
        let (timer, patience) = (self.fabric.timer(), self.load.patience);
        let faults = self.faults.count();
        let track = within(&timer, patience, self.fabric.connect(&self.desk)).await;
        let track = track
            .ok_or_else(|| hang("a connect", patience))?
            .map_err(|error| judged_handshake("connect", error.kind()))?;
        let pipe = within(&timer, patience, P::open(&self.fabric, track, Role::Connector)).await;
        let pipe = pipe.ok_or_else(|| hang("a handshake", patience))?.map_err(|kind| judged("open", kind))?;
        Ok((pipe, faults))
    }

    async fn talk(&self, (mut pipe, faults): (P, u64), progress: &mut Progress) -> Result<(), Trouble> {
        let mut bytes = Vec::new();
        self.patiently("a welcome", faults, pipe.recv(&mut bytes)).await?;
        let welcome = answer(&bytes, Kind::Welcome)?;
        progress.acknowledge(welcome.number, welcome.digest, &self.tally).map_err(Trouble::Wrong)?;
        self.tally.sessions.fetch_add(1, Ordering::SeqCst);
        self.tally.connected.store(true, Ordering::SeqCst);
        // What the desk does not have goes again.
        let again = progress.under_way.len() as u64;
        for number in progress.acked + 1..=progress.acked + again {
            self.send(&mut pipe, number, faults).await?;
        }
        loop {
            while (progress.under_way.len() as u64) < self.load.window && !self.load.is_over() {
                let number = progress.made() + 1;
                let sum = self.make(number, &mut bytes);
                progress
                    .under_way
                    .push_back((record::digest(progress.newest_digest(), sum), bytes.len() - record::HEAD));
                self.patiently("room to send", faults, send(&mut pipe, &bytes)).await?;
            }
            if progress.under_way.is_empty() {
                break;
            }
            while !progress.under_way.is_empty() {
                if !self.patiently("an acknowledgement", faults, pipe.recv(&mut bytes)).await? {
                    return Err(Trouble::Wrong("a goodbye with records under way".into()));
                }
                let ack = answer(&bytes, Kind::Ack)?;
                if ack.number != progress.acked + 1 {
                    let why = format!("{} is acknowledged after {}", ack.number, progress.acked);
                    return Err(Trouble::Wrong(why));
                }
                progress.acknowledge(ack.number, ack.digest, &self.tally).map_err(Trouble::Wrong)?;
            }
            if !self.load.rest.is_zero() {
                self.fabric.timer().sleep(self.load.rest).await;
            }
        }
        self.part(pipe, faults).await
    }

    /// Goodbye, and the desk's.
    async fn part(&self, mut pipe: P, faults: u64) -> Result<(), Trouble> {
        self.patiently("a finish", faults, async { pipe.finish().await.map(|()| true) }).await?;
        let mut bytes = Vec::new();
        if self.patiently("a goodbye", faults, pipe.recv(&mut bytes)).await? {
            return Err(Trouble::Wrong("a record that answers nothing".into()));
        }
        // Both ends have said all and heard all: whether the close is clean is nobody's concern by now.
        let timer = self.fabric.timer();
        within(&timer, self.load.patience, pipe.close()).await.ok_or_else(|| hang("a close", self.load.patience))?.ok();
        Ok(())
    }

    fn make(&self, number: u64, into: &mut Vec<u8>) -> u32 {
        let body = record::body_of(P::LANE, number, record::len_of(P::LANE, number, self.load.longest));
        record::write(into, Kind::Data, number, 0, body)
    }

    async fn send(&self, pipe: &mut P, number: u64, faults: u64) -> Result<(), Trouble> {
        let mut bytes = Vec::new();
        self.make(number, &mut bytes);
        self.patiently("room to send again", faults, send(pipe, &bytes)).await.map(drop)
    }

    /// Waits for `future`. Silence is a broken connection where a fault may have cut it without a word, and a hang where
    /// not.
    async fn patiently<T>(
        &self,
        what: &str,
        faults: u64,
        future: impl Future<Output = Result<T, trespass_core::ErrorKind>>,
    ) -> Result<T, Trouble> {
        let timer = self.fabric.timer();
        let begun = timer.now();
        let mut future = pin!(future);
        let mut alarm = timer.sleep(self.load.silence);
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(output.map_err(|kind| judged(what, kind)));
            }
            while Pin::new(&mut alarm).poll(cx).is_ready() {
                if self.faults.count() != faults {
                    self.tally.silent.fetch_add(1, Ordering::SeqCst);
                    return Poll::Ready(Err(Trouble::Broken(format!("silence instead of {what}"))));
                }
                if timer.now().saturating_sub(begun) >= self.load.patience {
                    return Poll::Ready(Err(hang(what, self.load.patience)));
                }
                alarm = timer.sleep(self.load.silence);
            }
            Poll::Pending
        })
        .await
    }
}

/// How long to wait after the first failure, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

async fn send<P: Pipe>(pipe: &mut P, record: &[u8]) -> Result<bool, trespass_core::ErrorKind> {
    pipe.send(record).await.map(|()| true)
}

fn answer(bytes: &[u8], kind: Kind) -> Result<Record<'_>, Trouble> {
    match record::read(bytes).map_err(Trouble::Wrong)? {
        record if record.kind == kind => Ok(record),
        record => Err(Trouble::Wrong(format!("{:?} instead of {kind:?}", record.kind))),
    }
}

fn hang(what: &str, patience: Duration) -> Trouble {
    Trouble::Wrong(format!("a hang: {what} took longer than {patience:?}, and nothing had gone wrong"))
}
