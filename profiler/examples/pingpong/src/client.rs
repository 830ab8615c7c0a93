//! The other half of the ping-pong, without tokio: only the server is to be profiled.

use crate::programs::MESSAGE;
use anyhow::Context as _;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Looking at the clock costs as well: do so once in this many round trips.
const ROUND_TRIPS_PER_LOOK: u64 = 64;

pub(crate) fn run(addr: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(addr).with_context(|| format!("no server at {addr}"))?;
    stream.set_nodelay(true)?;
    writeln!(io::stdout(), "ready")?;
    for line in io::stdin().lines() {
        let millis = line?
            .trim()
            .parse()
            .context("the length of a slice is not a number")?;
        let (round_trips, elapsed) = slice(&mut stream, Duration::from_millis(millis))?;
        writeln!(
            io::stdout(),
            "round_trips={round_trips} seconds={:.6}",
            elapsed.as_secs_f64()
        )?;
    }
    Ok(())
}

fn slice(stream: &mut TcpStream, length: Duration) -> io::Result<(u64, Duration)> {
    let mut message = [0x5a; MESSAGE];
    let mut round_trips = 0;
    let begin = Instant::now();
    while begin.elapsed() < length {
        for _ in 0..ROUND_TRIPS_PER_LOOK {
            stream.write_all(&message)?;
            stream.read_exact(&mut message)?;
        }
        round_trips += ROUND_TRIPS_PER_LOOK;
    }
    Ok((round_trips, begin.elapsed()))
}
