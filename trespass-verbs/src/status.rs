//! What the status of a failed completion means (ibv_poll_cq(3); InfiniBand specification vol. 1, 11.6.2).

use rdma_mummy_sys::{ibv_wc, ibv_wc_status as wc};

use crate::error::VerbsError;

/// The error of the first completion that failed; `None` for a flush, which is noise that follows a failure.
pub(crate) fn failure(completion: &ibv_wc) -> Option<VerbsError> {
    let code = completion.status;
    let vendor = completion.vendor_err;
    let (status, hint) = meaning(code);
    Some(match code {
        wc::IBV_WC_SUCCESS | wc::IBV_WC_WR_FLUSH_ERR => return None,
        wc::IBV_WC_RETRY_EXC_ERR | wc::IBV_WC_RESP_TIMEOUT_ERR | wc::IBV_WC_REM_ABORT_ERR => {
            VerbsError::Disconnected { status, code, vendor, hint }
        }
        wc::IBV_WC_REM_ACCESS_ERR => VerbsError::RemoteAccess { status, code, vendor, hint },
        wc::IBV_WC_REM_INV_REQ_ERR
        | wc::IBV_WC_REM_INV_RD_REQ_ERR
        | wc::IBV_WC_REM_OP_ERR
        | wc::IBV_WC_BAD_RESP_ERR => VerbsError::PeerFailed { status, code, vendor, hint },
        _ => VerbsError::WorkRequest { status, code, vendor, hint },
    })
}

/// The name of a status, and what usually causes it or what to do.
fn meaning(code: u32) -> (&'static str, &'static str) {
    match code {
        wc::IBV_WC_SUCCESS => ("success", "nothing is wrong"),
        wc::IBV_WC_LOC_LEN_ERR => (
            "local length error",
            "the peer sent a message longer than the receive buffers here; make max_message the same on both ends",
        ),
        wc::IBV_WC_LOC_QP_OP_ERR => (
            "local queue pair operation error",
            "the device could not send at all: its link may be down (`rdma link`), or the address it sends from is gone",
        ),
        wc::IBV_WC_LOC_EEC_OP_ERR => ("local EE context operation error", NO_RD),
        wc::IBV_WC_LOC_PROT_ERR => (
            "local protection error",
            "a buffer here is not registered for what was asked of it; please report this as a bug",
        ),
        wc::IBV_WC_WR_FLUSH_ERR => {
            ("flushed", "the queue pair had failed or was closed before; the first error tells why")
        }
        wc::IBV_WC_MW_BIND_ERR => (
            "memory window bind error",
            "the region does not allow windows, or is not registered any more; check what was exported",
        ),
        wc::IBV_WC_BAD_RESP_ERR => (
            "bad response",
            "the peer's device answered out of turn; make path_mtu the same on both ends, and compare the firmware",
        ),
        wc::IBV_WC_LOC_ACCESS_ERR => (
            "local access error",
            "the peer wrote where it must not; check that both ends run the same version of the application",
        ),
        wc::IBV_WC_REM_INV_REQ_ERR => (
            "remote invalid request",
            "the peer's device does not take such a message: longer than its receive buffers (make max_message the same on \
             both ends), or of a kind that its queue pair does not allow",
        ),
        wc::IBV_WC_REM_ACCESS_ERR => (
            "remote access error",
            "the peer did not grant that memory, not for this, or not any more; ask it for a new grant",
        ),
        wc::IBV_WC_REM_OP_ERR => (
            "remote operation error",
            "the peer could not finish taking the message; its own error says why (often a message that is too long)",
        ),
        wc::IBV_WC_RETRY_EXC_ERR => (
            "transport retries exceeded",
            "the peer died, or the link to it is down, or loses too much: look at the peer, then at `rdma link` and at flow \
             control; raise ack_timeout where the network is that slow",
        ),
        wc::IBV_WC_RNR_RETRY_EXC_ERR => (
            "receiver-not-ready retries exceeded",
            "the peer posted no receive in time: it is stuck, or has too few recv_slots",
        ),
        wc::IBV_WC_LOC_RDD_VIOL_ERR => ("local RDD violation", NO_RD),
        wc::IBV_WC_REM_INV_RD_REQ_ERR => ("remote invalid RD request", NO_RD),
        wc::IBV_WC_REM_ABORT_ERR => ("remote abort", "the peer ended the operation; its own error says why"),
        wc::IBV_WC_INV_EECN_ERR => ("invalid EE context number", NO_RD),
        wc::IBV_WC_INV_EEC_STATE_ERR => ("invalid EE context state", NO_RD),
        wc::IBV_WC_FATAL_ERR => (
            "fatal device error",
            "the device or its driver failed: look at `dmesg`, then reset the device or load its driver again",
        ),
        wc::IBV_WC_RESP_TIMEOUT_ERR => (
            "response timeout",
            "the peer's device acknowledged and never answered: it died, or the link went down in between",
        ),
        wc::IBV_WC_GENERAL_ERR => {
            ("general error", "look up the vendor error in the documentation of the driver, and at `dmesg`")
        }
        wc::IBV_WC_TM_ERR => ("tag matching error", NO_TM),
        wc::IBV_WC_TM_RNDV_INCOMPLETE => ("tag matching rendezvous incomplete", NO_TM),
        _ => (
            "unknown error",
            "this status is newer than this library; look up it and the vendor error in the documentation of the driver",
        ),
    }
}

/// Of transports and offloads that are never asked for.
const NO_RD: &str = "it belongs to reliable datagrams, which are not used here: look at `dmesg` for a failing driver";
const NO_TM: &str = "it belongs to tag matching, which is not used here: look at `dmesg` for a failing driver";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use trespass_core::{ErrorKind, TransportError};

    use super::*;

    /// The last status that there is in rdma-core 57.
    const LAST: u32 = wc::IBV_WC_TM_RNDV_INCOMPLETE;

    fn completion(status: u32) -> ibv_wc {
        // SAFETY: plain integers and a union of them: all zero is a valid value.
        let blank: ibv_wc = unsafe { std::mem::zeroed() };
        ibv_wc { status, vendor_err: 0x81, ..blank }
    }

    #[test]
    fn every_status_has_a_name_and_says_what_to_do() {
        let (unknown, _) = meaning(u32::MAX);
        let mut names = HashSet::new();
        for code in 0..=LAST {
            let (name, hint) = meaning(code);
            assert_ne!(name, unknown, "status {code}");
            assert!(names.insert(name), "{name} twice");
            // A sentence, and one that says where to look or what to change.
            assert!(hint.split(' ').count() >= 3, "status {code}: {hint}");
        }
        assert_eq!(meaning(LAST + 1).0, unknown);
    }

    #[test]
    fn every_failure_shows_name_number_vendor_error_and_hint() {
        for code in (0..=LAST + 1).filter(|code| ![wc::IBV_WC_SUCCESS, wc::IBV_WC_WR_FLUSH_ERR].contains(code)) {
            let error = failure(&completion(code)).expect("a failure");
            let (name, hint) = meaning(code);
            let text = error.to_string();
            for part in [name, hint, &format!("status {code}"), "vendor error 0x81"] {
                assert!(text.contains(part), "{part:?} is not in {text:?}");
            }
        }
    }

    #[test]
    fn noise_is_none_and_kinds_are_right() {
        assert_eq!(failure(&completion(wc::IBV_WC_SUCCESS)), None);
        assert_eq!(failure(&completion(wc::IBV_WC_WR_FLUSH_ERR)), None);
        let kind = |code| failure(&completion(code)).map(|error| error.kind());
        assert_eq!(kind(wc::IBV_WC_RETRY_EXC_ERR), Some(ErrorKind::Disconnected));
        assert_eq!(kind(wc::IBV_WC_RESP_TIMEOUT_ERR), Some(ErrorKind::Disconnected));
        assert_eq!(kind(wc::IBV_WC_LOC_LEN_ERR), Some(ErrorKind::Device));
        assert_eq!(kind(wc::IBV_WC_REM_INV_REQ_ERR), Some(ErrorKind::Device));
    }
}
