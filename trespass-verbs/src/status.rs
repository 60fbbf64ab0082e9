//! What the status of a failed completion means (ibv_poll_cq(3); InfiniBand specification vol. 1, 11.6.2).

use rdma_mummy_sys::{ibv_wc, ibv_wc_status as wc};

use crate::error::VerbsError;

/// The error of the first completion that failed; `None` for a flush, which is noise that follows a failure.
pub(crate) fn failure(completion: &ibv_wc) -> Option<VerbsError> {
    let code = completion.status;
    let vendor = completion.vendor_err;
    let status = name(code);
    Some(match code {
        wc::IBV_WC_SUCCESS | wc::IBV_WC_WR_FLUSH_ERR => return None,
        wc::IBV_WC_RETRY_EXC_ERR | wc::IBV_WC_RESP_TIMEOUT_ERR | wc::IBV_WC_REM_ABORT_ERR => {
            VerbsError::Disconnected { status, code, vendor }
        }
        wc::IBV_WC_REM_INV_REQ_ERR | wc::IBV_WC_REM_OP_ERR | wc::IBV_WC_REM_ACCESS_ERR | wc::IBV_WC_BAD_RESP_ERR => {
            VerbsError::PeerFailed { status, code, vendor }
        }
        _ => VerbsError::WorkRequest { status, code, vendor, hint: hint(code) },
    })
}

fn name(code: u32) -> &'static str {
    match code {
        wc::IBV_WC_LOC_LEN_ERR => "local length error",
        wc::IBV_WC_LOC_QP_OP_ERR => "local queue pair operation error",
        wc::IBV_WC_LOC_PROT_ERR => "local protection error",
        wc::IBV_WC_MW_BIND_ERR => "memory window bind error",
        wc::IBV_WC_BAD_RESP_ERR => "bad response",
        wc::IBV_WC_LOC_ACCESS_ERR => "local access error",
        wc::IBV_WC_REM_INV_REQ_ERR => "remote invalid request",
        wc::IBV_WC_REM_ACCESS_ERR => "remote access error",
        wc::IBV_WC_REM_OP_ERR => "remote operation error",
        wc::IBV_WC_RETRY_EXC_ERR => "transport retries exceeded",
        wc::IBV_WC_RNR_RETRY_EXC_ERR => "receiver-not-ready retries exceeded",
        wc::IBV_WC_REM_ABORT_ERR => "remote abort",
        wc::IBV_WC_FATAL_ERR => "fatal device error",
        wc::IBV_WC_RESP_TIMEOUT_ERR => "response timeout",
        wc::IBV_WC_GENERAL_ERR => "general error",
        _ => "unknown error",
    }
}

fn hint(code: u32) -> &'static str {
    match code {
        wc::IBV_WC_LOC_LEN_ERR => {
            "the peer sent a message longer than the receive buffers here; make max_message the same on both ends"
        }
        wc::IBV_WC_LOC_QP_OP_ERR => "the own link may be down",
        wc::IBV_WC_RNR_RETRY_EXC_ERR => "the peer posted no receive in time",
        _ => "see the driver's documentation for the vendor error",
    }
}
