//! Builds without `debug_assertions`: nothing is kept, nothing is checked, and nothing is left of it.
#![allow(clippy::unused_self, reason = "the same calls as where there is something to check")]

use std::task::Poll;

use trespass_core::{Limits, TryError};

pub(super) fn joined<A>(_: &A, _: &A) {}

pub(super) fn split(_: Limits, _: Limits, _: Limits) {}

#[inline]
pub(super) fn truncated(_: usize, _: usize, _: usize) {}

/// Nothing.
#[derive(Debug)]
pub(super) struct Claim;

/// Nothing.
#[derive(Debug)]
pub(super) struct Kept;

/// Nothing.
#[derive(Debug)]
pub(super) struct Held;

impl Held {
    #[inline]
    pub(super) fn unchanged(&self, _: &[u8]) {}
}

/// Nothing.
#[derive(Debug)]
pub struct SendCheck;

impl SendCheck {
    pub(super) fn new(_: Limits) -> Self {
        Self
    }

    #[inline]
    pub(super) fn before_reserve(&self) -> usize {
        0
    }

    #[inline]
    pub(super) fn reserved(&mut self, _: usize, _: usize) -> (Claim, Kept) {
        (Claim, Kept)
    }

    #[inline]
    pub(super) fn not_reserved<E>(&mut self, _: usize, _: usize, _: &TryError<E>) {}

    #[inline]
    pub(super) fn sent(&mut self, _: &Claim) {}

    #[inline]
    pub(super) fn unsent<E>(&mut self, _: &Claim, _: usize, _: usize, _: &E) {}

    #[inline]
    pub(super) fn not_carried(&mut self, _: &Claim, _: bool) {}

    #[inline]
    pub(super) fn flushed<E>(&mut self, _: &Result<(), E>) {}

    #[inline]
    pub(super) fn polled_ready(&mut self, _: Poll<()>) {}

    #[inline]
    pub(super) fn polled_close<E>(&mut self, _: &Poll<Result<(), E>>) {}
}

/// Nothing.
#[derive(Debug)]
pub struct RecvCheck;

impl RecvCheck {
    pub(super) fn new(_: Limits, _: bool, _: u64) -> Self {
        Self
    }

    #[inline]
    pub(super) fn posted(&self, _: u64) {}

    #[inline]
    pub(super) fn received(&mut self, _: &[u8]) -> Held {
        Held
    }

    #[inline]
    pub(super) fn not_received<E>(&mut self, _: &TryError<E>) {}

    #[inline]
    pub(super) fn polled_ready(&mut self, _: Poll<()>) {}
}

#[derive(Debug, Default)]
pub(super) struct ListenCheck;

impl ListenCheck {
    pub(super) fn polled<E>(&mut self, _: Poll<Result<(), &E>>) {}

    pub(super) fn closing(&mut self) {}
}
