//! What the tests share.
#![allow(dead_code, reason = "each test uses its part")]

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use trespass::core::{InOrder, Incoming, Listener, ListenerExt, Lossless, ThreadFabric, Track};
use trespass_example_tls::identity::{Identity, connector};
use trespass_example_tls::{echo, secure};

/// Past this there is a hang.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("a hang")
}

/// A server and its clients, on any fabric: some bytes, none, and many.
pub(crate) async fn exercise<F>(client: &F, server: &F, addr: &F::Addr)
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    for len in [1000, 0, 1 << 20] {
        let data: Vec<u8> = (0..len).map(|at: usize| (at ^ (at >> 8)) as u8).collect();
        let mut listener = server.listen(addr).expect("a listener");
        let connecting = client.connect(&listener.local());
        let identity = Identity::self_signed().expect("an identity");
        let (tls, name) = connector(identity.certificate().clone()).expect("a connector");
        let acceptor = identity.acceptor().expect("an acceptor");
        let serving = async {
            let track = listener.incoming().await.expect("a request").accept().await.expect("accepted");
            let stream = secure::accept(track, &acceptor).await.expect("TLS");
            echo::serve(stream).await.expect("served")
        };
        let asking = async {
            let stream = secure::connect(connecting.await.expect("connected"), &tls, name).await.expect("TLS");
            echo::ask(stream, &data).await.expect("asked")
        };
        let (served, same) = tokio::join!(serving, asking);
        assert_eq!((served, same), (len as u64, true));
    }
}

/// A stream that shows what is written to it.
pub(crate) struct Tap<S> {
    stream: S,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl<S> Tap<S> {
    pub(crate) fn new(stream: S, seen: Arc<Mutex<Vec<u8>>>) -> Self {
        Self { stream, seen }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.seen.lock().expect("nobody panicked").extend_from_slice(&buf[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
