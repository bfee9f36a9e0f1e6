//! The stream of a connection: tells [`Connections`] what arrives and what is written, and ends when it says so.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::connection::Connection;
use super::registry::{Connections, Ending};

/// What somebody gets whose head is too long, since no handler ever sees it.
static HEAD_TOO_LONG: LazyLock<String> = LazyLock::new(|| {
    let body = r#"{"type":"about:blank","title":"Head too large","status":431,"detail":"the request line and the headers may have at most 48 KiB together","error_code":"INVALID_REQUEST","request_id":""}"#;
    format!(
        "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: application/problem+json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
});

/// A TCP stream whose bytes are counted.
pub struct Counted {
    stream: TcpStream,
    connection: Arc<Connection>,
    connections: Arc<Connections>,
    is_tls: bool,
}

impl Counted {
    /// `None`: this address has too many. `is_tls`: these are the bytes of TLS.
    pub fn new(
        stream: TcpStream,
        peer: IpAddr,
        connections: Arc<Connections>,
        is_tls: bool,
    ) -> Option<Counted> {
        let connection = connections.admit(peer)?;
        Some(Counted { stream, connection, connections, is_tls })
    }

    /// As its requests know it.
    pub fn connection(&self) -> Arc<Connection> {
        self.connection.clone()
    }

    fn ended(&self, ending: Ending) -> io::Result<()> {
        if ending == Ending::HeadTooLong && !self.is_tls {
            // Nothing else is being written, as no handler has this request. Who does not read it does not get it.
            let _ = self.stream.try_write(HEAD_TOO_LONG.as_bytes());
            return Ok(());
        }
        // Not a reset: actix takes that for the end of what was sent, and goes on with the request.
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.connections.remove(&self.connection);
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.connection.is_closed(cx.waker()) {
            return Poll::Ready(self.ended(Ending::Shed));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let bytes = &buf.filled()[before..];
        if !bytes.is_empty()
            && let Err(ending) = self.connections.received(&self.connection, bytes, !self.is_tls)
        {
            // As if the stream had ended here.
            buf.set_filled(before);
            return Poll::Ready(self.ended(ending));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.connection.is_closed(cx.waker()) {
            return Poll::Ready(self.ended(Ending::Shed).map(|()| 0));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.connections.wrote(&self.connection, written.is_ready());
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.connections.written(&self.connection);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
