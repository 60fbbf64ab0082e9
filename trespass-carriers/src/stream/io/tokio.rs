//! tokio's.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use trespass_core::{InOrder, Lossless, Track};

use crate::stream::{StreamCarrier, StreamReadHalf, StreamWriteHalf};

macro_rules! reads {
    ($stream:ident) => {
        impl<T: Track<Delivery: Lossless + InOrder>> AsyncRead for $stream<T> {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                if buf.remaining() == 0 {
                    return Poll::Ready(Ok(()));
                }
                ready!(self.get_mut().poll_copy(cx, |bytes| {
                    let len = bytes.len().min(buf.remaining());
                    buf.put_slice(&bytes[..len]);
                    len
                }))?;
                Poll::Ready(Ok(()))
            }
        }

        impl<T: Track<Delivery: Lossless + InOrder>> AsyncBufRead for $stream<T> {
            fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
                self.get_mut().poll_fill(cx).map_err(io::Error::from)
            }

            fn consume(self: Pin<&mut Self>, len: usize) {
                self.get_mut().consume(len);
            }
        }
    };
}

macro_rules! writes {
    ($stream:ident) => {
        impl<T: Track<Delivery: Lossless + InOrder>> AsyncWrite for $stream<T> {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                self.get_mut().poll_put(cx, &[IoSlice::new(buf)]).map_err(io::Error::from)
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                self.get_mut().poll_put(cx, bufs).map_err(io::Error::from)
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.get_mut().poll_push(cx).map_err(io::Error::from)
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.get_mut().poll_finish(cx).map_err(io::Error::from)
            }
        }
    };
}

reads!(StreamCarrier);
reads!(StreamReadHalf);
writes!(StreamCarrier);
writes!(StreamWriteHalf);
