//! Socket addresses, as C has them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// A socket address that a C call can take.
#[repr(C)]
pub(crate) union RawAddr {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
    any: libc::sockaddr,
}

impl RawAddr {
    pub(crate) fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        &raw mut *self as *mut libc::sockaddr
    }
}

impl From<SocketAddr> for RawAddr {
    fn from(addr: SocketAddr) -> Self {
        match addr {
            SocketAddr::V4(addr) => Self {
                v4: libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: addr.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(addr.ip().octets()) },
                    sin_zero: [0; 8],
                },
            },
            SocketAddr::V6(addr) => Self {
                v6: libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: addr.port().to_be(),
                    sin6_flowinfo: addr.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: addr.ip().octets() },
                    sin6_scope_id: addr.scope_id(),
                },
            },
        }
    }
}

/// The address behind `addr`, if it is one of the internet.
///
/// # Safety
/// `addr` lies at the beginning of storage that is large enough for its family.
pub(crate) unsafe fn read(addr: &libc::sockaddr) -> Option<SocketAddr> {
    let start = std::ptr::from_ref(addr);
    match i32::from(addr.sa_family) {
        libc::AF_INET => {
            // SAFETY: the caller's promise; both are plain data, and an unaligned read asks nothing more.
            let v4 = unsafe { start.cast::<libc::sockaddr_in>().read_unaligned() };
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { start.cast::<libc::sockaddr_in6>().read_unaligned() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way_to_c_and_back() {
        for text in ["10.9.0.1:7471", "0.0.0.0:0", "[::1]:65535", "[fe80::1%3]:80"] {
            let addr: SocketAddr = text.parse().unwrap();
            let mut raw = RawAddr::from(addr);
            // SAFETY: the union is as large as either family.
            assert_eq!(unsafe { read(&*raw.as_mut_ptr()) }, Some(addr));
        }
    }
}
