//! The other end of a client's connections: it answers each request after a while, and notes when.

use anyhow::{Context as _, Result};
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// What the peer speaks.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Speaks {
    /// `200 OK` to each request.
    #[default]
    Http,
    /// A database server that lets nobody in.
    Postgres,
}

const HTTP: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: \"a\"\r\n\
    Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\nConnection: keep-alive\r\n\r\nok";
/// An ErrorResponse: its length, then severity, code and message.
const POSTGRES: &[u8] = b"E\0\0\0\x1bSFATAL\0C28000\0Mclosed\0\0";
/// A client's question for TLS, after its length of 8 bytes.
const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();

/// A listener on a port of its own.
pub(super) struct Peer {
    pub(super) addr: SocketAddr,
    answers: Arc<Mutex<Vec<Duration>>>,
}

impl Peer {
    /// Listens from now on, and answers each request `delay` after it came.
    ///
    /// # Errors
    /// There is no port to listen on.
    pub(super) fn start(speaks: Speaks, delay: Duration) -> Result<Peer> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot listen")?;
        let addr = listener.local_addr()?;
        let answers = Arc::<Mutex<Vec<Duration>>>::default();
        let noted = Arc::clone(&answers);
        // It ends with this process, as do the threads of its connections: they only wait for input.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let noted = Arc::clone(&noted);
                thread::spawn(move || serve(stream, speaks, delay, &noted));
            }
        });
        Ok(Peer { addr, answers })
    }

    /// When each answer was sent, by the monotonic clock.
    pub(super) fn answers(&self) -> Vec<Duration> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.clone()
    }
}

/// Answers until the client goes.
fn serve(
    mut stream: TcpStream,
    speaks: Speaks,
    delay: Duration,
    answers: &Mutex<Vec<Duration>>,
) -> io::Result<()> {
    let mut request = vec![0; 1 << 16];
    loop {
        let count = stream.read(&mut request)?;
        let Some(request) = request.get(..count).filter(|request| !request.is_empty()) else {
            return Ok(());
        };
        if speaks == Speaks::Postgres && request.get(4..8) == Some(&SSL_REQUEST) {
            stream.write_all(b"N")?;
            continue;
        }
        thread::sleep(delay);
        let now = now();
        answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(now);
        match speaks {
            Speaks::Http => stream.write_all(HTTP)?,
            Speaks::Postgres => {
                stream.write_all(POSTGRES)?;
                return Ok(());
            }
        }
    }
}

/// The monotonic clock, which is the same for all processes.
fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}
