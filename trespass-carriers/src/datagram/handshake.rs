//! The handshake over a network that loses, without IO.
//!
//! The connector says Hello until it hears Welcome, or Refuse; then it is open, and says Ready. The acceptor answers each
//! Hello, and says Welcome again until it hears Ready, or anything else of the session; then it is open too. Only a
//! connector may have to answer later: to a Welcome that comes again because its Ready was lost.

use super::wire::{Misfit, Packet, echo};
use crate::error::Refusal;
use crate::handshake::{Agreement, agree};
use crate::wire::{Greeting, Offer};
use trespass_core::Role;

/// One end's part in a handshake.
#[derive(Debug)]
pub(super) struct Handshake {
    role: Role,
    offer: Offer,
    session: u32,
    /// The acceptor's: whom it has answered.
    answered: Option<Agreed>,
}

/// What a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) agreement: Agreement,
    /// The peer's session.
    pub(super) peer: u32,
}

/// What is to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Say {
    Hello(Offer),
    Welcome { offer: Offer, to: u32 },
    Ready { to: u32 },
    Refuse { why: Refusal, to: u32 },
}

/// What a datagram comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing: it is dropped.
    Nothing,
    Say(Say),
    /// The session is open, once that was said.
    Open(Agreed, Option<Say>),
    /// The session is open, and the datagram is part of it.
    OpenWith(Agreed),
    Refused(Refusal),
    /// The peer will not do, once that was said.
    Incompatible(Refusal, Say),
    /// The peer left before it had begun.
    Left,
}

impl Handshake {
    pub(super) fn new(role: Role, offer: Offer, session: u32) -> Self {
        Self { role, offer, session, answered: None }
    }

    /// What to say now, first or again.
    pub(super) fn prompt(&self) -> Option<Say> {
        match (self.role, self.answered) {
            (Role::Connector, _) => Some(Say::Hello(self.offer)),
            (Role::Acceptor, Some(agreed)) => Some(self.welcome(&agreed)),
            (Role::Acceptor, None) => None,
        }
    }

    /// Takes a datagram in.
    pub(super) fn hear(&mut self, datagram: &[u8]) -> Heard {
        match (self.role, Greeting::parse(datagram)) {
            (Role::Connector, Ok((Greeting::Welcome(offer), peer))) if echo(datagram) == Some(self.session) => {
                self.welcomed(&offer, peer)
            }
            (Role::Connector, Ok((Greeting::Refuse(why), to))) if to == self.session => Heard::Refused(why),
            (Role::Acceptor, Ok((Greeting::Hello(offer), peer))) => self.asked(&offer, peer),
            (Role::Acceptor, Ok((Greeting::Refuse(why), to))) if to == self.session && self.answered.is_some() => {
                Heard::Refused(why)
            }
            (Role::Acceptor, Err(_)) => self.confirmed(datagram),
            _ => Heard::Nothing,
        }
    }

    fn asked(&mut self, offer: &Offer, peer: u32) -> Heard {
        match agree(&self.offer, offer) {
            Ok(agreement) => {
                let agreed = Agreed { agreement, peer };
                self.answered = Some(agreed);
                Heard::Say(self.welcome(&agreed))
            }
            Err(why) => Heard::Incompatible(why, Say::Refuse { why, to: peer }),
        }
    }

    fn welcomed(&self, offer: &Offer, peer: u32) -> Heard {
        match agree(&self.offer, offer) {
            Ok(agreement) => Heard::Open(Agreed { agreement, peer }, Some(Say::Ready { to: peer })),
            Err(why) => Heard::Incompatible(why, Say::Refuse { why, to: peer }),
        }
    }

    /// Something that is no greeting, for an acceptor.
    fn confirmed(&self, datagram: &[u8]) -> Heard {
        let Some(agreed) = self.answered else { return Heard::Nothing };
        match Packet::parse(datagram, self.session) {
            Ok(Packet::Ready | Packet::Beat) => Heard::Open(agreed, None),
            Ok(Packet::Whole { .. } | Packet::Segment { .. }) => Heard::OpenWith(agreed),
            Ok(Packet::Bye) => Heard::Left,
            Ok(Packet::Welcome) | Err(Misfit::Garbage | Misfit::Stale) => Heard::Nothing,
        }
    }

    fn welcome(&self, agreed: &Agreed) -> Say {
        let version = agreed.agreement.version;
        Say::Welcome { offer: Offer { min_version: version, max_version: version, ..self.offer }, to: agreed.peer }
    }
}

#[cfg(test)]
mod tests;
