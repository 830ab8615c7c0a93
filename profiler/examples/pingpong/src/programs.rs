//! The tokio programs that wait as they should.

use std::io::{self, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// Bytes of one message.
pub(crate) const MESSAGE: usize = 16;

/// A runtime with one worker, so that every task is polled by one and the same thread.
pub(crate) fn one_worker() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
}

/// Tells the starter that all is set up, then waits until it closes standard input.
pub(crate) fn ready_until_stdin_closes(what: &str) -> io::Result<()> {
    writeln!(io::stdout(), "ready {what}")?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

pub(crate) fn server() -> anyhow::Result<()> {
    let runtime = one_worker()?;
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let addr = listener.local_addr()?;
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    Ok(ready_until_stdin_closes(&addr.to_string())?)
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut message = [0; MESSAGE];
    loop {
        stream.read_exact(&mut message).await?;
        stream.write_all(&message).await?;
    }
}

pub(crate) fn idle() -> anyhow::Result<()> {
    let runtime = one_worker()?;
    runtime.spawn(async {
        loop {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
    });
    Ok(ready_until_stdin_closes("")?)
}
