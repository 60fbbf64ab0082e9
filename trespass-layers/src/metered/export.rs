//! Where counts and events go, each behind its feature. Without it there is nothing here.
#![cfg_attr(not(feature = "tracing"), allow(unused_variables))]

use trespass_core::{Address, Role, TransportError};

use crate::layer::Event;

#[cfg(feature = "metrics")]
pub(super) fn publish(name: &str, snapshot: &super::Snapshot) {
    use metrics::{counter, gauge};

    let name = || name.to_owned();
    let named = [
        ("trespass_connects_total", snapshot.connects),
        ("trespass_connected_total", snapshot.connected),
        ("trespass_requests_total", snapshot.requests),
        ("trespass_accepted_total", snapshot.accepted),
        ("trespass_refused_total", snapshot.refused),
        ("trespass_closed_total", snapshot.closed),
    ];
    for (what, count) in named.into_iter().chain(snapshot.tracks.named()) {
        counter!(what, "fabric" => name()).absolute(count);
    }
    for (kind, count) in snapshot.errors.iter() {
        counter!("trespass_errors_total", "fabric" => name(), "kind" => kind.to_string()).absolute(count);
    }
    #[allow(clippy::cast_precision_loss, reason = "nobody has 2^53 tracks")]
    gauge!("trespass_tracks", "fabric" => name()).set(snapshot.live_tracks as f64);
}

/// A handshake gave a track.
pub(super) fn joined<A: Address>(name: &str, role: Role, peer: &A) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: "trespass", fabric = name, ?role, %peer, "a track has come to be");
}

/// Something else happened to a connection or a listener.
pub(super) fn event<A: Address, E: TransportError>(name: &str, event: &Event<'_, A, E>) {
    #[cfg(feature = "tracing")]
    match event {
        Event::Listening(addr) => tracing::debug!(target: "trespass", fabric = name, %addr, "listening"),
        Event::NotListening(addr, error) => {
            tracing::warn!(target: "trespass", fabric = name, %addr, kind = %error.kind(), %error, "cannot listen");
        }
        Event::ListenerEnded(addr, error) => {
            tracing::warn!(target: "trespass", fabric = name, %addr, kind = %error.kind(), %error, "a listener has ended");
        }
        Event::Refused(peer) => tracing::debug!(target: "trespass", fabric = name, %peer, "a request is refused"),
        Event::Failed(role, peer, error) => {
            let kind = error.kind();
            tracing::warn!(target: "trespass", fabric = name, ?role, %peer, %kind, %error, "a handshake has failed");
        }
        Event::Connecting(peer) => tracing::trace!(target: "trespass", fabric = name, %peer, "connecting"),
        Event::Requested(peer) => tracing::trace!(target: "trespass", fabric = name, %peer, "a request"),
    }
}

/// A track was closed cleanly on this side.
pub(super) fn track_closed<A: Address>(name: &str, peer: &A) {
    #[cfg(feature = "tracing")]
    tracing::debug!(target: "trespass", fabric = name, %peer, "a track was closed");
}

/// A track has ended otherwise, or refused a buffer. An end of kind `Closed` is the peer's, and nothing to warn of.
pub(super) fn track_failed<A: Address, E: TransportError>(name: &str, peer: &A, error: &E) {
    #[cfg(feature = "tracing")]
    match error.kind() {
        trespass_core::ErrorKind::Closed => {
            tracing::debug!(target: "trespass", fabric = name, %peer, %error, "a track has ended");
        }
        kind => tracing::warn!(target: "trespass", fabric = name, %peer, %kind, %error, "a track has failed"),
    }
}
