//! What one end's frames mean, as `wire.rs` of the carriers has it in its tables, written down once more: so that what a
//! carrier makes of them can be compared.

use std::collections::VecDeque;

use trespass_core::RemoteWindow;

pub(crate) const HELLO: u8 = 1;
pub(crate) const WELCOME: u8 = 2;
pub(crate) const REFUSE: u8 = 3;
pub(crate) const MESSAGE: u8 = 16;
pub(crate) const FIRST: u8 = 17;
pub(crate) const MORE: u8 = 18;
pub(crate) const ABORT: u8 = 19;
pub(crate) const CREDIT: u8 = 32;
pub(crate) const FIN: u8 = 33;
pub(crate) const BYE: u8 = 34;
pub(crate) const LEND: u8 = 48;
pub(crate) const FETCHED: u8 = 49;
pub(crate) const BYTES: u8 = 64;

/// What a conversation of messages has come to.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The longest message that may be told.
    max: u64,
    /// Messages that are whole, the oldest first.
    pub(crate) whole: VecDeque<Whole>,
    /// The one that was begun, and how long it will be.
    begun: Option<(u64, Vec<u8>)>,
    /// Something was said that may not be said. What follows counts for nothing.
    pub(crate) wrong: bool,
    pub(crate) finished: bool,
    pub(crate) left: bool,
    /// Messages may be lent.
    lends: bool,
    /// How many messages were lent, and how many the other end was told to be read.
    pub(crate) lent: u64,
    pub(crate) fetched: u64,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whole {
    Sent(Vec<u8>),
    /// To be read there.
    Lent(RemoteWindow),
}

impl Told {
    /// Nothing yet, of messages of up to `max` bytes, which may be lent or not.
    pub(crate) fn new(max: usize, lends: bool) -> Self {
        Self { max: max as u64, lends, ..Self::default() }
    }

    /// A frame comes.
    pub(crate) fn frame(&mut self, bytes: &[u8]) {
        if !self.wrong {
            self.wrong = self.take(bytes).is_none();
        }
    }

    /// How many bytes of the message that was begun are missing.
    pub(crate) fn missing(&self) -> u64 {
        self.begun.as_ref().map_or(0, |(total, begun)| total.saturating_sub(begun.len() as u64))
    }

    /// `None` for one that may not come.
    fn take(&mut self, bytes: &[u8]) -> Option<()> {
        let (&[kind, 0, 0, 0, _, _, _, _], body) = bytes.split_first_chunk::<8>()? else { return None };
        let between = self.begun.is_none() && !self.finished;
        match kind {
            MESSAGE if between && body.len() as u64 <= self.max => self.whole.push_back(Whole::Sent(body.to_vec())),
            FIRST if between => {
                let (total, segment) = body.split_first_chunk::<8>()?;
                let total = Some(u64::from_le_bytes(*total)).filter(|total| *total <= self.max)?;
                self.begun = Some((total, Vec::new()));
                self.more(segment)?;
            }
            MORE if self.begun.is_some() => self.more(body)?,
            ABORT if body.is_empty() => drop(self.begun.take()?),
            CREDIT if body.is_empty() => {}
            FIN if body.is_empty() && between => self.finished = true,
            BYE if body.is_empty() => {
                (self.finished, self.left) = (true, true);
                self.begun = None;
            }
            LEND if between && self.lends => {
                let window = RemoteWindow::decode(body).ok().filter(|window| (1..=self.max).contains(&window.len()))?;
                self.whole.push_back(Whole::Lent(window));
                self.lent += 1;
            }
            FETCHED if body.is_empty() && self.lends => self.fetched += 1,
            _ => return None,
        }
        Some(())
    }

    fn more(&mut self, segment: &[u8]) -> Option<()> {
        let (total, begun) = self.begun.as_mut().filter(|_| !segment.is_empty())?;
        begun.extend(segment);
        let left = total.checked_sub(begun.len() as u64)?;
        if left == 0 {
            self.whole.extend(self.begun.take().map(|(_, whole)| Whole::Sent(whole)));
        }
        Some(())
    }
}
