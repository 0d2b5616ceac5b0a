//! A connection that was dialled, plain or under TLS.

use std::io;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::config::Url;
use crate::tls::{Tls, server_name};

/// See the module.
pub(super) enum PeerStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl PeerStream {
    /// Connects to `url`. The connection ends if the peer's kernel acknowledges nothing for `write_timeout`.
    pub(super) async fn connect(url: &Url, tls: Option<&Tls>, write_timeout: Duration) -> io::Result<PeerStream> {
        let stream = TcpStream::connect((url.host.as_str(), url.port)).await?;
        stream.set_nodelay(true)?;
        let millis = u32::try_from(write_timeout.as_millis()).unwrap_or(u32::MAX);
        sockopt::set_tcp_user_timeout(&stream, millis).map_err(io::Error::from)?;
        match (url.scheme.as_str(), tls) {
            ("http", _) => Ok(PeerStream::Plain(stream)),
            ("https", Some(tls)) => {
                let stream = tls.connector().connect(server_name(&url.host)?, stream).await?;
                Ok(PeerStream::Tls(Box::new(stream)))
            }
            (scheme, _) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("{scheme}: this member has no certificates for its peers"),
            )),
        }
    }

    /// A second descriptor, to be written to by others, where bytes go out as they are.
    pub(super) fn second(&self) -> Option<std::net::TcpStream> {
        match self {
            PeerStream::Plain(stream) => stream.as_fd().try_clone_to_owned().ok().map(Into::into),
            PeerStream::Tls(_) => None,
        }
    }
}

macro_rules! each {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream.get_mut() {
            PeerStream::Plain(stream) => {
                let $inner = Pin::new(stream);
                $call
            }
            PeerStream::Tls(stream) => {
                let $inner = Pin::new(&mut **stream);
                $call
            }
        }
    };
}

impl AsyncRead for PeerStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => inner.poll_read(cx, buf))
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, inner => inner.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, inner => inner.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => inner.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => inner.poll_shutdown(cx))
    }
}
