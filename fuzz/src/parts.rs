//! The parts, each by itself: everything that is parsed, and the machines that are fed with it.

use trespass_carriers::fuzzing;
use trespass_core::RemoteWindow;
use trespass_mock::MockAddr;

use super::meter::Meter;

/// Every decoder, on the same bytes: those of carriers, windows, and addresses as text.
pub fn decoders(input: &[u8]) {
    bounded(4 << 10, input, |input| {
        fuzzing::decoders(input);
        window(input);
        if let Ok(text) = std::str::from_utf8(input) {
            address(text);
        }
    });
}

/// Credits, the order of frames, reassembly and the inbox, without a track: the script is in `src/fuzzing/inbox.rs` of the
/// carriers.
pub fn inbox(script: &[u8]) {
    bounded(1 << 20, script, fuzzing::inbox);
}

/// Messages in datagrams, without a track: the script is in `src/datagram/fuzzing.rs` of the carriers.
pub fn assembly(script: &[u8]) {
    bounded(4 << 20, script, fuzzing::assembly);
}

/// With so much memory for what the settings of a script allow, and some for what it is compared with.
fn bounded(settings: usize, input: &[u8], target: fn(&[u8])) {
    Meter::new(settings + 16 * input.len()).run(|| target(input));
}

/// What is taken for a window is one, and no part of it lies outside.
fn window(input: &[u8]) {
    let (bytes, rest) = input.split_at(input.len().min(RemoteWindow::ENCODED));
    let Ok(window) = RemoteWindow::decode(bytes) else { return };
    assert_eq!(window.encode(), bytes, "{window:?}");
    let whole = usize::try_from(window.len()).ok().and_then(|len| window.slice(0, len).ok()).expect("all of it");
    let end = whole.address().checked_add(window.len()).expect("within all addresses");
    let (offset, len) = rest.split_at(rest.len().min(8));
    let (offset, len) = (number(offset), number(len) as usize);
    match window.slice(offset, len) {
        Ok(part) => {
            assert_eq!((part.len(), part.key(), part.access()), (len, whole.key(), window.access()));
            assert!(part.address() >= whole.address() && part.address() + len as u64 <= end, "{part:?} of {window:?}");
        }
        Err(outside) => assert!(offset.checked_add(len as u64).is_none_or(|end| end > window.len()), "{outside}"),
    }
    if let Ok(word) = window.word(offset) {
        assert!(word.address() % 8 == 0 && word.address() + 8 <= end, "{word:?} of {window:?}");
    }
}

/// An address reads as it was written.
fn address(text: &str) {
    if let Ok(address) = text.parse::<MockAddr>() {
        assert_eq!((address.as_str(), address.to_string().parse()), (text, Ok(address.clone())));
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
