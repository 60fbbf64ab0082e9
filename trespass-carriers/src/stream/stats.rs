//! What a stream has done so far.

/// Counts since the stream was opened. They only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamStats {
    /// Bytes taken from the application.
    pub bytes_sent: u64,
    /// Bytes that have arrived, read or not.
    pub bytes_received: u64,
    /// Frames that carried them.
    pub frames_sent: u64,
    /// Frames that carried bytes.
    pub frames_received: u64,
    /// Frames sent for no other reason than to give the peer credits.
    pub credit_updates_sent: u64,
    /// Frames received that gave credits and nothing else.
    pub credit_updates_received: u64,
    /// Frames sent for no other reason than to be heard.
    pub beats_sent: u64,
    /// How often a write found no credits.
    pub stalls: u64,
}
