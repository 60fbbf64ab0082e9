//! The one thread that waits for all sockets of a fabric. It never blocks but in `poll`, and never waits for a user.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::{Events, Interest, Poll, Registry, Token};

use super::handshake::Handshake;
use super::link::Link;
use super::listen::Listening;
use super::{TcpError, lock};

/// What a token stands for. Handshakes are owned by this table, so that to forget one is to undo it.
#[derive(Debug)]
pub(super) enum Entry {
    Listening(Arc<Listening>),
    Link(Arc<Link>),
    Handshake(Handshake),
}

/// A handle of the reactor. Its thread ends with the last one.
#[derive(Debug, Clone)]
pub(super) struct Reactor {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    core: Arc<Core>,
}

#[derive(Debug)]
struct Core {
    registry: Registry,
    waker: mio::Waker,
    table: Mutex<HashMap<Token, Entry>>,
    /// Tokens are never used twice: a late event finds nothing.
    next: AtomicUsize,
    stopped: AtomicBool,
}

/// A place in the table. Dropping it empties the place.
#[derive(Debug)]
pub(super) struct Membership {
    token: Token,
    reactor: Reactor,
    leaves: bool,
}

const WAKER: Token = Token(0);

impl Reactor {
    /// Starts the thread, which looks at deadlines once in each `turn`.
    pub(super) fn start(turn: Duration) -> io::Result<Self> {
        let poll = Poll::new()?;
        let core = Arc::new(Core {
            registry: poll.registry().try_clone()?,
            waker: mio::Waker::new(poll.registry(), WAKER)?,
            table: Mutex::default(),
            next: AtomicUsize::new(WAKER.0 + 1),
            stopped: AtomicBool::new(false),
        });
        let thread =
            Thread { poll, core: Arc::clone(&core), staging: vec![0; 64 << 10].into(), again: Vec::new(), turn };
        std::thread::Builder::new().name("tcp-reactor".into()).spawn(move || thread.run())?;
        Ok(Self { handle: Arc::new(Handle { core }) })
    }

    /// Puts `entry` into the table.
    pub(super) fn join(&self, entry: Entry) -> Membership {
        let token = Token(self.handle.core.next.fetch_add(1, Ordering::Relaxed));
        let membership = Membership { token, reactor: self.clone(), leaves: true };
        self.table(|table| table.insert(token, entry));
        membership
    }

    /// Puts a handshake into the table, and its socket under watch: at once, so that no event comes to an empty place.
    pub(super) fn begin(&self, mut handshake: Handshake) -> Result<Membership, TcpError> {
        let io = |error: io::Error| TcpError::io("cannot watch a socket", &error);
        // The small messages of this protocol are not to wait for each other. A socket that has no such option does without.
        let _ = handshake.socket.set_nodelay(true);
        let token = Token(self.handle.core.next.fetch_add(1, Ordering::Relaxed));
        let membership = Membership { token, reactor: self.clone(), leaves: true };
        self.table(|table| {
            membership.register(&mut handshake.socket).map_err(io)?;
            table.insert(token, Entry::Handshake(handshake));
            Ok(())
        })?;
        Ok(membership)
    }

    /// Takes a source out that was registered for another entry.
    pub(super) fn release(&self, source: &mut impl Source) -> io::Result<()> {
        self.handle.core.registry.deregister(source)
    }

    fn table<R>(&self, change: impl FnOnce(&mut HashMap<Token, Entry>) -> R) -> R {
        change(&mut lock(&self.handle.core.table))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.stopped.store(true, Ordering::SeqCst);
        // Where that fails the thread ends a turn later.
        let _ = self.core.waker.wake();
    }
}

impl Membership {
    /// Whatever `source` is ready for, the entry is told from here on, and once at the start.
    pub(super) fn register(&self, source: &mut impl Source) -> io::Result<()> {
        let core = &self.reactor.handle.core;
        // The entry is in the table: a thread that ends after this look ends the entry too.
        if core.stopped.load(Ordering::SeqCst) {
            return Err(io::Error::other("the reactor has ended"));
        }
        core.registry.register(source, self.token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Lets the entry stay: it ends by itself, by its deadline at the latest.
    pub(super) fn detach(mut self) {
        self.leaves = false;
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if !self.leaves {
            return;
        }
        // What is dropped may lead back here: not under the lock.
        let entry = self.reactor.table(|table| table.remove(&self.token));
        drop(entry);
    }
}

struct Thread {
    poll: Poll,
    core: Arc<Core>,
    /// What is read goes here first: one piece of memory for all sockets.
    staging: Box<[u8]>,
    /// Those who have more to be read, after the others.
    again: Vec<Token>,
    turn: Duration,
}

impl Thread {
    fn run(mut self) {
        let mut events = Events::with_capacity(256);
        let mut next_turn = Instant::now() + self.turn;
        while !self.core.stopped.load(Ordering::SeqCst) {
            let timeout = match self.again.is_empty() {
                true => next_turn.saturating_duration_since(Instant::now()),
                false => Duration::ZERO,
            };
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return,
                Ok(()) | Err(_) => {}
            }
            for token in std::mem::take(&mut self.again) {
                self.on_ready(token);
            }
            for event in &events {
                self.on_ready(event.token());
            }
            if Instant::now() >= next_turn {
                next_turn = Instant::now() + self.turn;
                self.on_turn();
            }
        }
    }

    fn on_ready(&mut self, token: Token) {
        // Only what has to be done is done under the lock.
        let entry = {
            let mut table = lock(&self.core.table);
            match table.get(&token) {
                Some(Entry::Link(link)) => Some(Entry::Link(Arc::clone(link))),
                Some(Entry::Listening(listening)) => Some(Entry::Listening(Arc::clone(listening))),
                Some(Entry::Handshake(_)) => table.remove(&token),
                None => None,
            }
        };
        let more = match entry {
            Some(Entry::Link(link)) => link.on_ready(&mut self.staging),
            Some(Entry::Listening(listening)) => listening.accept(),
            Some(Entry::Handshake(handshake)) => {
                if let Some(handshake) = handshake.go_on() {
                    self.put_back(token, handshake);
                }
                false
            }
            None => false,
        };
        if more {
            self.again.push(token);
        }
    }

    /// A handshake that goes on goes back to its place, unless it was given up meanwhile.
    fn put_back(&self, token: Token, handshake: Handshake) {
        let mut table = lock(&self.core.table);
        let unwanted = match handshake.is_wanted() {
            true => table.insert(token, Entry::Handshake(handshake)),
            false => Some(Entry::Handshake(handshake)),
        };
        drop(table);
        drop(unwanted);
    }

    /// Looks at all deadlines.
    fn on_turn(&mut self) {
        let now = Instant::now();
        let (mut links, mut listeners, mut late) = (Vec::new(), Vec::new(), Vec::new());
        let late = {
            let mut table = lock(&self.core.table);
            for (token, entry) in &*table {
                match entry {
                    Entry::Link(link) => links.push(Arc::clone(link)),
                    Entry::Listening(listening) => listeners.push(Arc::clone(listening)),
                    Entry::Handshake(handshake) if handshake.is_late(now) => late.push(*token),
                    Entry::Handshake(_) => {}
                }
            }
            late.iter().filter_map(|token| table.remove(token)).collect::<Vec<_>>()
        };
        links.iter().for_each(|link| link.on_turn(now));
        listeners.iter().for_each(|listening| listening.on_turn(now));
        late.into_iter().for_each(|entry| entry.fail(&TcpError::TimedOut("handshake")));
    }
}

impl Drop for Thread {
    /// Where handles are left, there was no way to wait for sockets any more, or a waker has panicked: everything ends, and
    /// says so.
    fn drop(&mut self) {
        self.core.stopped.store(true, Ordering::SeqCst);
        let entries: Vec<Entry> = lock(&self.core.table).drain().map(|(_, entry)| entry).collect();
        let error = TcpError::io("cannot wait for sockets", &io::Error::other("the reactor has ended"));
        entries.into_iter().for_each(|entry| entry.fail(&error));
    }
}

impl Entry {
    fn fail(self, error: &TcpError) {
        match self {
            Self::Link(link) => link.end(error.clone()),
            Self::Listening(listening) => listening.end(error.clone()),
            Self::Handshake(handshake) => handshake.fail(error.clone()),
        }
    }
}
