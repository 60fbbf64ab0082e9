//! What a carrier over datagrams has done so far.

/// Counts since the carrier was opened. They only grow. Of the halves of a split carrier each counts its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatagramStats {
    /// Messages queued whole. Whether they arrive is the network's affair, and the receiver's.
    pub messages_sent: u64,
    /// Bytes of these.
    pub bytes_sent: u64,
    /// Datagrams that carried part of a message.
    pub segments_sent: u64,
    /// Beats, and answers to a peer that goes on shaking hands.
    pub control_sent: u64,
    /// Messages handed to the application.
    pub messages_received: u64,
    /// Bytes of these.
    pub bytes_received: u64,
    /// Datagrams that carried part of a message, and were of use.
    pub segments_received: u64,
    /// Messages, or parts of them, that had come before.
    pub duplicates: u64,
    /// Messages, or parts of them, that came after 1024 newer ones, or so far ahead of all others that the number was not
    /// believed.
    pub out_of_window: u64,
    /// Messages of which a part came, and not all of it in time, or not before too many others were begun.
    pub given_up: u64,
    /// Messages that had not come, whole, when 1024 newer ones were sent, and were not given up before: lost in the
    /// network, or for want of a posted receive.
    pub missed: u64,
    /// Datagrams that were none of this protocol, or contradicted what came before.
    pub garbage: u64,
    /// Datagrams of another session, such as an earlier one between the same two queue pairs, or left over from a handshake.
    pub stale: u64,
    /// Parts of messages that were dropped for want of memory.
    pub out_of_memory: u64,
}

impl DatagramStats {
    /// What both halves have done. Each field is counted by one of them.
    pub(super) fn joined(sender: Self, receiver: Self) -> Self {
        Self {
            messages_sent: sender.messages_sent,
            bytes_sent: sender.bytes_sent,
            segments_sent: sender.segments_sent,
            control_sent: sender.control_sent,
            ..receiver
        }
    }
}
