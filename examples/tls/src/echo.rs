//! What this program says once it is safe: a server that says everything again, and a client that compares.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, split};

/// Says everything again, and then that there is no more. How many bytes.
///
/// # Errors
/// What ends the stream before its time. A peer that is gone without TLS's own goodbye is one (kind `UnexpectedEof`):
/// whoever cuts a connection cannot make it look finished.
pub async fn serve<S: AsyncRead + AsyncWrite>(stream: S) -> io::Result<u64> {
    let (mut read, mut write) = split(stream);
    let copied = copy(&mut read, &mut write).await?;
    write.shutdown().await?;
    Ok(copied)
}

/// Says `data` and hears it again. Whether it was the same.
///
/// # Errors
/// As [`serve`].
pub async fn ask<S: AsyncRead + AsyncWrite>(stream: S, data: &[u8]) -> io::Result<bool> {
    let (mut read, mut write) = split(stream);
    let saying = async {
        write.write_all(data).await?;
        write.shutdown().await
    };
    let mut heard = Vec::with_capacity(data.len());
    // Both at once: a server that cannot answer does not read on.
    let ((), _) = tokio::try_join!(saying, read.read_to_end(&mut heard))?;
    Ok(heard == data)
}
