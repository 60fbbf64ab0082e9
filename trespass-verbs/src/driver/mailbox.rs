//! What is left for the driver to do.

use std::collections::VecDeque;
use std::sync::PoisonError;

use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering};

/// Commands that any thread leaves, and the driver takes while there is one.
pub(super) struct Mailbox<C> {
    commands: Mutex<VecDeque<C>>,
    /// Whether there may be some.
    has_mail: AtomicBool,
    driven: AtomicBool,
}

impl<C> Mailbox<C> {
    pub(super) fn new() -> Self {
        Self { commands: Mutex::new(VecDeque::new()), has_mail: AtomicBool::new(false), driven: AtomicBool::new(true) }
    }

    pub(super) fn is_driven(&self) -> bool {
        self.driven.load(Ordering::Acquire)
    }

    /// Leaves a command, and nudges the driver through `nudge`. It comes back where there is no driver any more.
    pub(super) fn leave(&self, command: C, nudge: impl FnOnce()) -> Result<(), C> {
        let mut commands = self.lock();
        // Looked at under the lock under which a driver that ends empties it.
        if !self.is_driven() {
            return Err(command);
        }
        commands.push_back(command);
        drop(commands);
        // Before the nudge, which the driver takes before it looks. (A store would do, but loom does not know that an
        // exchange that reads one of two stores has nothing between it and that.)
        self.has_mail.swap(true, Ordering::AcqRel);
        nudge();
        Ok(())
    }

    #[inline]
    pub(super) fn has_mail(&self) -> bool {
        self.has_mail.load(Ordering::Relaxed)
    }

    /// Obeys up to `most` commands. The driver's alone.
    pub(super) fn read(&self, most: usize, mut obey: impl FnMut(C)) {
        self.has_mail.swap(false, Ordering::Acquire);
        for _ in 0..most {
            // Not held while the command is obeyed.
            let command = self.lock().pop_front();
            match command {
                Some(command) => obey(command),
                None => return,
            }
        }
        // There may be more.
        self.has_mail.store(true, Ordering::Release);
    }

    /// There is no driver from now on. Take what is [left](Mailbox::drain) afterwards.
    pub(super) fn stop(&self) {
        self.driven.store(false, Ordering::Release);
    }

    /// What was left and not taken.
    pub(super) fn drain(&self) -> VecDeque<C> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<C>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Besides what a test of its own shows to fail, each of these fails a model: `has_mail` set after the nudge, not set
/// again where there may be more, or cleared after the look; `driven` looked at before the lock is taken.
#[cfg(all(test, loom))]
mod loom_tests {
    use std::sync::Arc;

    use loom::sync::Condvar;
    use loom::thread;

    use super::*;
    use crate::sync::explore;

    /// The driver's descriptor: raised until it is cleared, and waited for.
    struct Nudge {
        raised: Mutex<bool>,
        changed: Condvar,
    }

    impl Nudge {
        fn raise(&self) {
            *self.raised.lock().unwrap() = true;
            self.changed.notify_one();
        }

        /// Waits unless `at_once`, and clears it.
        fn wait(&self, at_once: bool) {
            let mut raised = self.raised.lock().unwrap();
            while !*raised && !at_once {
                raised = self.changed.wait(raised).unwrap();
            }
            *raised = false;
        }
    }

    fn office() -> Arc<(Mailbox<u32>, Nudge)> {
        Arc::new((Mailbox::new(), Nudge { raised: Mutex::new(false), changed: Condvar::new() }))
    }

    /// A driver that obeys one command a turn gets `expected`, which one thread leaves in their order and another beside it.
    fn every_command_is_obeyed(leave: fn(&(Mailbox<u32>, Nudge), u32)) {
        let office = office();
        let leaving = [vec![1, 2], vec![3]].map(|commands| {
            let office = Arc::clone(&office);
            thread::spawn(move || commands.into_iter().for_each(|command| leave(&office, command)))
        });
        let (mailbox, nudge) = &*office;
        let mut got = Vec::new();
        // As `VerbsDriver::drive` does it.
        while got.len() < 3 {
            let mail = mailbox.has_mail();
            if mail {
                mailbox.read(1, |command| got.push(command));
            }
            if got.len() < 3 {
                nudge.wait(mail);
                if mailbox.has_mail() {
                    mailbox.read(1, |command| got.push(command));
                }
            }
        }
        assert!(got.iter().filter(|command| **command < 3).eq(&[1, 2]) && got.contains(&3), "{got:?}");
        leaving.into_iter().for_each(|thread| thread.join().unwrap());
    }

    #[test]
    fn a_driver_gets_every_command_and_sleeps_over_none() {
        explore(Some(2), || {
            every_command_is_obeyed(|(mailbox, nudge), command| {
                assert!(mailbox.leave(command, || nudge.raise()).is_ok());
            });
        });
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn one_that_is_nudged_too_early_sleeps() {
        explore(Some(2), || {
            every_command_is_obeyed(|(mailbox, nudge), command| {
                nudge.raise();
                assert!(mailbox.leave(command, || ()).is_ok());
            });
        });
    }

    #[test]
    fn what_is_left_when_the_driver_ends_comes_back_or_is_drained() {
        explore(None, || {
            let office = office();
            let leaving = {
                let office = Arc::clone(&office);
                thread::spawn(move || office.0.leave(7, || office.1.raise()).is_err())
            };
            office.0.stop();
            let drained = office.0.drain();
            let came_back = leaving.join().unwrap();
            assert_eq!(drained.len() + usize::from(came_back), 1);
            assert!(office.0.drain().is_empty());
        });
    }
}
