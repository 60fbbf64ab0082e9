//! What a carrier has done so far.

/// Counts since the carrier was opened. They only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages queued whole.
    pub messages_sent: u64,
    /// Messages handed to the application.
    pub messages_received: u64,
    /// Bytes of the messages queued.
    pub bytes_sent: u64,
    /// Bytes of the messages handed to the application.
    pub bytes_received: u64,
    /// Frames that carried part of a message.
    pub segments_sent: u64,
    /// Frames that carried part of a message.
    pub segments_received: u64,
    /// Messages withdrawn after part of them was sent.
    pub messages_withdrawn: u64,
    /// Frames sent for no other reason than to give the peer credits.
    pub credit_updates_sent: u64,
    /// Frames received that gave credits and nothing else.
    pub credit_updates_received: u64,
    /// Frames sent for no other reason than to be heard.
    pub beats_sent: u64,
    /// How often a send found no credits.
    pub stalls: u64,
    /// Messages copied out of the track's buffers to make room while a send waited.
    pub spilled_messages: u64,
    /// Their bytes.
    pub spilled_bytes: u64,
}
