//! The 40 bytes that come before a datagram, and who they say sent it.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The device writes so many bytes before a datagram.
pub(crate) const HEADER: usize = 40;

/// Where the IPv4 header begins, on RoCE v2 over IPv4.
const V4: usize = 20;

/// The address of the device that sent a datagram. The header is a global route header, which is an IPv6 header too
/// (InfiniBand specification vol. 1, 8.3), or 20 bytes of anything and an IPv4 header (annex A17, 4.5.3).
pub(crate) fn sender(header: &[u8; HEADER]) -> Option<Ipv6Addr> {
    match (header[0] >> 4, is_v4(header)) {
        // What comes before an IPv4 header may look like the beginning of the other; the checksum tells.
        (6, true) if is_intact(header) => sender_v4(header),
        (6, _) => header[8..24].try_into().ok().map(|gid: [u8; 16]| Ipv6Addr::from(gid)),
        (_, true) => sender_v4(header),
        (_, false) => None,
    }
}

/// Version 4, and a header without options: RoCE v2 has no other.
fn is_v4(header: &[u8; HEADER]) -> bool {
    header[V4] == 0x45
}

fn sender_v4(header: &[u8; HEADER]) -> Option<Ipv6Addr> {
    let source: [u8; 4] = header[V4 + 12..V4 + 16].try_into().ok()?;
    Some(Ipv4Addr::from(source).to_ipv6_mapped())
}

/// Whether the checksum of the IPv4 header is right: the sum of all its words is then all ones (RFC 791, 3.1).
fn is_intact(header: &[u8; HEADER]) -> bool {
    let sum: u32 = header[V4..].chunks_exact(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (folded & 0xffff) + (folded >> 16) == 0xffff
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v4(source: [u8; 4], before: u8) -> [u8; HEADER] {
        let mut header = [before; HEADER];
        header[V4..].copy_from_slice(&[0x45, 0, 0, 60, 0, 0, 0x40, 0, 64, 17, 0, 0, 0, 0, 0, 0, 10, 9, 0, 2]);
        header[V4 + 12..V4 + 16].copy_from_slice(&source);
        let sum: u32 = header[V4..].chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        let checksum = !(((sum & 0xffff) + (sum >> 16)) as u16);
        header[V4 + 10..V4 + 12].copy_from_slice(&checksum.to_be_bytes());
        header
    }

    #[test]
    fn an_ipv4_header_is_believed_behind_anything() {
        for before in [0, 0xff, 0x60] {
            let sender = sender(&v4([10, 9, 0, 1], before));
            assert_eq!(sender, Some(Ipv4Addr::new(10, 9, 0, 1).to_ipv6_mapped()), "behind {before:#x}");
        }
    }

    #[test]
    fn a_global_route_header_is_told_from_an_ipv4_header() {
        let mut header = [0; HEADER];
        header[0] = 0x60;
        let gid: Ipv6Addr = "fe80::12:3456".parse().unwrap();
        header[8..24].copy_from_slice(&gid.octets());
        assert_eq!(sender(&header), Some(gid));
        // The sender's address has a byte where the other has its version.
        let gid: Ipv6Addr = "fe80::4500:0".parse().unwrap();
        header[8..24].copy_from_slice(&gid.octets());
        assert_eq!((header[V4], sender(&header)), (0x45, Some(gid)));
    }

    #[test]
    fn neither_is_nobody() {
        assert_eq!(sender(&[0; HEADER]), None);
        assert_eq!(sender(&[0xff; HEADER]), None);
    }

    proptest! {
        /// Whatever a device wrote: no panic, and an IPv4 sender only where there is an IPv4 header.
        #[test]
        fn any_bytes_name_nobody_or_somebody(mut header: [u8; HEADER], first in prop::sample::select(vec![0x45, 0x60, 0x00])) {
            header[V4] = first;
            let sender = sender(&header);
            prop_assert!(sender.and_then(|sender| sender.to_ipv4_mapped()).is_none() || first == 0x45 || header[0] >> 4 == 6);
        }

        #[test]
        fn any_ipv4_sender_is_found_behind_anything(source: [u8; 4], before: u8) {
            prop_assert_eq!(sender(&v4(source, before)), Some(Ipv4Addr::from(source).to_ipv6_mapped()));
        }
    }
}
