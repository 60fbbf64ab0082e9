//! The ways in which one-sided memory is broken on purpose, and the property that has to notice each.

faults! {
    // Memory.
    /// What is allocated has a byte of somebody's.
    AllocIsNotBlank => memory::memory_is_blank_and_aligned, "are not blank";
    /// No memory is some.
    AllocatesNothing => memory::memory_that_cannot_be_had_is_refused, "0 bytes of memory are there";
    /// What is adopted is blank.
    AdoptingBlanks => memory::adopted_memory_keeps_its_bytes, "differs at byte 0";
    /// A copy that does not lie inside is made in part.
    CopiesInPart => memory::shared_memory_is_the_same, "has changed something";
    /// Memory is reclaimed while others have it.
    ReclaimsWhatIsLent => memory::memory_is_reclaimed_when_nobody_has_it, "reclaimed, though";
    /// Nothing can be lent.
    LendsNothing => memory::windows_are_what_was_lent, "are lent";
    /// Words are read in halves.
    TearsWords => memory::words_are_whole, "half a word";
    /// Memory is blank when its fabric is gone.
    MemoryDiesWithTheFabric => memory::memory_outlives_everything, "differs at byte 0";
    /// Memory of a dropped track is given out again before its reads are done.
    ReusesMemoryOfTheDropped => memory::a_dropped_track_keeps_its_memory_to_itself, "a track that is gone wrote to";

    // Operations.
    /// Writes are a byte longer than asked for, where there is room.
    WritesTooMuch => memory::every_length_is_written_and_read, "touched byte";
    /// The acceptor's writes come to nothing.
    AcceptorDoesNotWrite => memory::both_ends_reach_each_other, "differs at byte";
    /// An operation of no bytes never completes.
    EmptyWritesAreSilent => memory::an_operation_of_nothing_takes_its_turn, "order of queueing";
    /// What does not fit ends the track.
    MisfitsEndTheTrack => memory::misfits_come_back, "that should live has failed";
    /// What does not fit costs a permit.
    MisfitsCostAPermit => memory::misfits_come_back, "";
    /// Permits of other tracks are good enough.
    AcceptsForeignPermits => memory::foreign_permits_and_memory_come_back, "was queued";
    /// Messages overtake the writes that were queued before them.
    ReordersWrites => memory::a_write_is_there_before_the_next_message, "differs at byte";
    /// Reads do not wait for what was queued before them.
    ReadsOvertake => memory::operations_see_what_was_queued_before, "";
    /// Two completions change places.
    SwapsCompletions => memory::completions_come_in_order, "other memory came back";
    /// Other memory comes back.
    SwapsMemory => memory::completions_come_in_order, "other memory came back";
    /// Each operation rings.
    RingsForEachOperation => memory::operations_share_the_doorbell, "doorbells after one flush";
    /// Memory is returned before its operation is done.
    ReturnsMemoryEarly => memory::memory_stays_with_an_operation_that_waits, "before its operation was done";
    /// A gathered send is two messages.
    GathersInTwo => memory::gathered_sends_arrive_as_one_message, "another length than it was sent with";
    /// One operation in ten costs a slot.
    LosesSlots => memory::many_operations_cost_no_slot, "";
    /// One byte of a read in eight is another.
    CorruptsReads => memory::a_read_beside_writes_brings_bytes_that_were_written, "that nobody wrote";

    // Permits.
    /// There is no end to permits.
    PermitsHaveNoBound => memory::permits_run_out_with_would_block, "is all there is";
    /// With all slots taken a permit finds no room.
    PermitsFindNoRoom => memory::permits_can_always_be_used, "does not find room";
    /// A permit that is dropped is lost.
    LosesPermits => memory::dropped_memory_futures_lose_nothing, "never became ready";
    /// A permit that is dropped wakes nobody.
    FreedPermitWakesNobody => memory::dropped_permits_wake_the_sender, "a wake-up was lost";
    /// Permits come back before their completions are taken.
    CompletionsAreUnbounded => memory::completions_that_nobody_takes_are_bounded, "before its completion was taken";
    /// A written buffer completes like other writes.
    WrittenBuffersComplete => memory::written_buffers_give_their_slots_back, "has a completion";

    // Waking.
    /// A completion wakes nobody.
    CompletionWakesNobody => memory::a_completion_wakes_the_latest_waker, "a wake-up was lost";
    /// The room that a completion makes wakes nobody.
    RoomWakesNobody => memory::a_taken_completion_wakes_the_sender, "a wake-up was lost";
    /// Waiting does not flush.
    WaitsWithoutAFlush => memory::waiting_flushes_operations, "that was queued before a wait";
    /// `try_complete` arms.
    ArmsInTry => memory::memory_try_calls_arm_nothing, "that never wait";
    /// One completion in ten is lost.
    LosesCompletions => memory::waits_for_completions_lose_no_wake_up, "";
    /// What came between a `try_complete` and the poll is not looked for.
    ForgetsTheRecheck => memory::a_poll_for_completions_looks_again, "a wake-up was lost";
    /// Permits from before a split are foreign after it.
    SplitForgetsPermits => memory::halves_reach_memory_from_two_threads, "from before the split";

    // Ends.
    /// A close forgets operations that were not flushed.
    CloseForgetsOperations => memory::a_close_waits_for_operations, "";
    /// Operations that were not done when the track ended do not come back.
    EndKeepsMemory => memory::the_end_gives_all_memory_back, "never came back";
    /// What is queued after the end is swallowed.
    SwallowsAfterTheEnd => memory::permits_end_with_the_track, "was queued";

    // Windows.
    /// A window that is taken back stays.
    RevokeDoesNothing => memory::a_revoked_window_allows_nothing, "was done";
    /// A window is to the whole memory.
    IgnoresBounds => memory::what_was_not_lent_is_refused, "beyond its end was done";
    /// What is lent to be read may be written.
    IgnoresReadOnly => memory::a_refusal_wakes_the_target, "a write was refused";
    /// A refused access looks like a broken link.
    RefusalIsDisconnected => memory::what_was_done_before_a_refusal_stays, "kind Disconnected";

    // Atomic operations.
    /// Adds one more than it was told.
    AddsOneMore => memory::atomics_say_what_was_there, "what an addition found";
    /// One addition in a hundred gets lost.
    LosesAdditions => memory::additions_sum_exactly, "";
    /// An exchange always says that it succeeded.
    SwapsAlwaysSucceed => memory::an_exchange_elects_one, "found the word free";

    // All together.
    /// A read of less than its memory scribbles behind its end.
    ScribblesBehindReads => memory::random_operations_match_the_memory_model, "TRESPASS_SEED=";
}

/// What other properties notice too.
pub(crate) const ALSO: &[(Fault, &str, &str)] = &[
    (Fault::RevokeDoesNothing, "memory::a_window_may_be_revoked_under_reads", "brought other bytes"),
    (Fault::RevokeDoesNothing, "memory::windows_come_and_go", "whose windows are gone"),
    (Fault::RevokeDoesNothing, "memory::memory_is_reclaimed_when_nobody_has_it", "that nobody else has"),
    (Fault::IgnoresReadOnly, "memory::what_was_not_lent_is_refused", "claimed to be writable was done"),
    (Fault::RefusalIsDisconnected, "memory::nonsense_is_no_window", "kind Disconnected"),
    (Fault::RefusalIsDisconnected, "memory::a_revoked_window_allows_nothing", "kind Disconnected"),
    (Fault::LosesPermits, "memory::dropped_permits_wake_the_sender", "a wake-up was lost"),
    (Fault::LosesPermits, "memory::misfits_come_back", "a permit of an idle track"),
    (Fault::LosesPermits, "memory::permits_run_out_with_would_block", ""),
    (Fault::LosesCompletions, "memory::many_operations_cost_no_slot", ""),
    (Fault::ReordersWrites, "memory::memory_stays_with_an_operation_that_waits", ""),
    (Fault::WritesTooMuch, MODEL, SEED),
    (Fault::ReordersWrites, MODEL, SEED),
    (Fault::SwapsCompletions, MODEL, SEED),
    (Fault::LosesPermits, MODEL, SEED),
    (Fault::LosesCompletions, MODEL, SEED),
    (Fault::AddsOneMore, MODEL, SEED),
    (Fault::CorruptsReads, MODEL, SEED),
    (Fault::GathersInTwo, MODEL, SEED),
    (Fault::WrittenBuffersComplete, MODEL, SEED),
    (Fault::LosesSlots, MODEL, SEED),
    (Fault::RevokeDoesNothing, MODEL, SEED),
];

const MODEL: &str = "memory::random_operations_match_the_memory_model";
const SEED: &str = "TRESPASS_SEED=";
