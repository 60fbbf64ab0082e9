//! Datagrams in their addressed form: numbered messages to whoever spoke last.

use std::error::Error;
use std::future::poll_fn;
use std::net::SocketAddr;

use trespass::core::{Port, PortExt, PortFabric, Sourced, TryError};

use crate::link::{Link, Result, number, put_number};
use crate::options::{Options, Side};

pub(crate) struct PortLink<P: Port> {
    port: P,
    peer: Option<P::Peer>,
}

/// Opens a port, and finds the server's; the server waits until somebody speaks.
pub(crate) async fn meet<F>(fabric: &F, options: &Options) -> std::result::Result<PortLink<F::Port>, Box<dyn Error>>
where
    F: PortFabric<Addr = SocketAddr>,
{
    match options.side {
        Side::Client => {
            let port = fabric.open_port(&SocketAddr::new(options.local, 0))?;
            Ok(PortLink { port, peer: Some(fabric.resolve(&options.peer).await?) })
        }
        Side::Server => {
            let mut port = fabric.open_port(&SocketAddr::new(options.local, options.peer.port()))?;
            println!("listening");
            // Whoever looks for this port is answered while we wait, and not while we poll.
            poll_fn(|cx| port.poll_recv_ready(cx)).await;
            Ok(PortLink { port, peer: None })
        }
    }
}

impl<P: Port> Link for PortLink<P> {
    type Error = P::Error;

    #[inline]
    fn try_send(&mut self, size: usize, number: u64) -> Result<bool, Self> {
        // Before anybody spoke there is nobody to answer, and no such conversation here.
        let Some(peer) = &self.peer else { return Ok(false) };
        let mut buf = match self.port.try_reserve(size) {
            Ok(buf) => buf,
            Err(TryError::WouldBlock) => return Ok(false),
            Err(TryError::Failed(error)) => return Err(error),
        };
        put_number(&mut buf, number);
        self.port.send_to(buf, peer).map_err(|unsent| unsent.error)?;
        Ok(true)
    }

    #[inline]
    fn flush(&mut self) -> Result<(), Self> {
        self.port.flush()
    }

    #[inline]
    fn try_recv(&mut self) -> Result<Option<u64>, Self> {
        match self.port.try_recv() {
            Ok(buf) => {
                self.peer = Some(buf.source());
                Ok(Some(number(&buf)))
            }
            Err(TryError::WouldBlock) => Ok(None),
            Err(TryError::Failed(error)) => Err(error),
        }
    }

    #[inline]
    async fn send(&mut self, size: usize, number: u64) -> Result<(), Self> {
        while !self.try_send(size, number)? {
            poll_fn(|cx| self.port.poll_send_ready(cx)).await;
        }
        Ok(())
    }

    #[inline]
    async fn recv(&mut self) -> Result<u64, Self> {
        let buf = self.port.recv().await?;
        self.peer = Some(buf.source());
        Ok(number(&buf))
    }

    async fn close(&mut self) -> Result<(), Self> {
        self.port.close().await
    }
}
