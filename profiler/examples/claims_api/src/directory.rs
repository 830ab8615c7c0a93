//! The provider directory, found by name each time.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};

const PORT: u16 = 5432;

/// The directory's host.
#[derive(Debug)]
pub struct Directory {
    host: String,
}

impl Directory {
    /// The directory on `host`, which need not exist.
    pub fn new(host: &str) -> Directory {
        Directory {
            host: host.to_owned(),
        }
    }

    /// Resolves with the C library's `getaddrinfo`, which reads files, asks servers and waits
    /// for them on the calling thread: seconds, if a server does not answer.
    pub fn resolve_with_getaddrinfo(&self) -> io::Result<Vec<SocketAddr>> {
        Ok((self.host.as_str(), PORT).to_socket_addrs()?.collect())
    }

    /// Resolves on a thread of the blocking pool.
    pub async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((self.host.as_str(), PORT))
            .await?
            .collect())
    }
}
