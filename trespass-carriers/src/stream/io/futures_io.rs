//! Those of futures-io.

use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};
use trespass_core::{InOrder, Lossless, Track};

use crate::stream::{StreamCarrier, StreamReadHalf, StreamWriteHalf};

macro_rules! reads {
    ($stream:ident) => {
        impl<T: Track<Delivery: Lossless + InOrder>> AsyncRead for $stream<T> {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
                self.poll_read_vectored(cx, &mut [IoSliceMut::new(buf)])
            }

            fn poll_read_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &mut [IoSliceMut<'_>],
            ) -> Poll<io::Result<usize>> {
                if bufs.iter().all(|buf| buf.is_empty()) {
                    return Poll::Ready(Ok(0));
                }
                let (mut place, mut at) = (bufs.iter_mut(), 0);
                let mut buf = place.next();
                let sink = |mut bytes: &[u8]| {
                    let mut taken = 0;
                    while let (Some(room), false) = (&mut buf, bytes.is_empty()) {
                        let room = &mut room[at..];
                        let len = bytes.len().min(room.len());
                        room[..len].copy_from_slice(&bytes[..len]);
                        (bytes, taken, at) = (&bytes[len..], taken + len, at + len);
                        if len == room.len() {
                            (buf, at) = (place.next(), 0);
                        }
                    }
                    taken
                };
                self.get_mut().poll_copy(cx, sink).map_err(io::Error::from)
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

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.get_mut().poll_push(cx).map_err(io::Error::from)
            }

            fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.get_mut().poll_finish(cx).map_err(io::Error::from)
            }
        }
    };
}

reads!(StreamCarrier);
reads!(StreamReadHalf);
writes!(StreamCarrier);
writes!(StreamWriteHalf);
