//! How tracks share their queues.

use crate::config::VerbsConfig;
use crate::device::{Device, cq_depth};
use crate::error::VerbsError;

/// The settings of [`VerbsShared`](crate::VerbsShared). The shape of messages and send slots is that of the fabric's
/// configuration. Checked when the queues are made; a bad one is refused with the reason.
///
/// Memory: send slots have memory for as long as a message is written or under way, from a stock that all tracks share.
/// Receive buffers are posted for twice the quota at first, or for all quotas where that is less; when the device says that it
/// runs low, twice as many are, up to all quotas; and those that tracks hold are replaced. So an idle track takes none of its own.
/// Both grow as they are needed, by registering more (which takes a send or a receive some time), up to the `pool_limit` of the
/// fabric once for each; neither shrinks. Beyond the limit a reservation fails with kind `ResourceLimit` where all send
/// memory is under way, and peers wait where all receive buffers are held.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedConfig {
    /// Tracks at once; the next is refused, with kind `Busy` on the side of the peer. 1 to 2^15, default 64.
    pub tracks: usize,
    /// Receive buffers that each track may have: what its peer may have sent and this end has not given back.
    /// 1 to 2^15, default 32. `tracks` times this has to fit into the device's queues.
    pub quota: usize,
}

impl Default for SharedConfig {
    fn default() -> Self {
        Self { tracks: 64, quota: 32 }
    }
}

impl SharedConfig {
    /// The same, for so many tracks with this quota each.
    #[must_use]
    pub fn with_tracks(self, tracks: usize, quota: usize) -> Self {
        Self { tracks, quota }
    }

    /// What can be checked without a device.
    fn check(&self) -> Result<(), VerbsError> {
        for (setting, value) in [("tracks", self.tracks), ("quota", self.quota)] {
            if !(1..=1 << 15).contains(&value) {
                let why = format!("is {value}; it has to be from 1 to {}", 1 << 15);
                return Err(VerbsError::Config { setting, why });
            }
        }
        Ok(())
    }

    /// Whether the device has queues of that size.
    pub(crate) fn check_with(&self, fabric: &VerbsConfig, device: &Device) -> Result<(), VerbsError> {
        self.check()?;
        let limits = device.context.query_device().map_err(|error| VerbsError::sideway("query the device", error))?;
        let (receives, sends) = (self.tracks * self.quota, self.tracks * fabric.send_slots);
        let within = |setting, what, wanted: usize, most: i32| {
            if usize::try_from(most).is_ok_and(|most| wanted <= most) {
                return Ok(());
            }
            let why = format!("times `tracks` asks for {what} of {wanted}, and {} has {most} at most", device.name);
            Err(VerbsError::Config { setting, why })
        };
        within("quota", "a shared receive queue", receives, limits.max_srq_wr())?;
        within("quota", "a completion queue", cq_depth(receives) as usize, limits.max_cqe())?;
        within("send_slots", "a completion queue", cq_depth(sends) as usize, limits.max_cqe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_setting_is_named() {
        let refused = |tracks, quota| match SharedConfig::default().with_tracks(tracks, quota).check() {
            Err(VerbsError::Config { setting, .. }) => setting,
            other => panic!("{other:?}"),
        };
        assert_eq!(SharedConfig::default().check(), Ok(()));
        assert_eq!(refused(0, 1), "tracks");
        assert_eq!(refused(1, 0), "quota");
        assert_eq!(refused(1, 1 << 16), "quota");
    }
}
