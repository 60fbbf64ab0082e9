//! Seats: who shares a hub, as many as there are buffers for.

use std::sync::Arc;

use super::member::Member;
use crate::track::slots::Shared;

#[cfg(all(test, loom))]
mod loom_tests;

/// A bounded table of members. A seat is free again when the device has nothing more of whoever had it, and its buffers are
/// back: the sum of all quotas is never more than there are buffers.
pub(crate) struct Seats {
    members: Box<[Option<Arc<Member>>]>,
    /// How often each seat was taken: part of its work requests' numbers.
    taken: Box<[u16]>,
}

impl Seats {
    pub(crate) fn new(seats: usize) -> Self {
        Self { members: (0..seats).map(|_| None).collect(), taken: vec![0; seats].into_boxed_slice() }
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// The first free seat.
    pub(crate) fn free(&self) -> Option<usize> {
        self.members.iter().position(|member| member.as_ref().is_none_or(|member| member.has_gone()))
    }

    /// Takes a free seat for a member that sends from `shared` and may have `quota` buffers.
    pub(crate) fn sit(&mut self, seat: usize, shared: Arc<Shared>, quota: usize) -> Arc<Member> {
        self.taken[seat] = self.taken[seat].wrapping_add(1);
        let tag = (u32::from(self.taken[seat]) << 16) | seat as u32;
        let member = Arc::new(Member::new(shared, quota as u32, tag));
        self.members[seat] = Some(Arc::clone(&member));
        member
    }

    /// Whose work request this is, unless whoever posted it has gone.
    #[inline]
    pub(crate) fn owner(&self, request: u64) -> Option<&Arc<Member>> {
        let seat = (request >> 32) as usize & 0xffff;
        self.members.get(seat)?.as_ref().filter(|member| member.owns(request))
    }

    /// Where `member` sits, if it does.
    pub(crate) fn seat_of(&self, member: &Member) -> Option<usize> {
        self.members.iter().position(|one| one.as_deref().is_some_and(|one| std::ptr::eq(one, member)))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.members.iter().flatten()
    }

    /// Takes everybody out.
    pub(crate) fn clear(&mut self) -> Box<[Option<Arc<Member>>]> {
        std::mem::take(&mut self.members)
    }
}
