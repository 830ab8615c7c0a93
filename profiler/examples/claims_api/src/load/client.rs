//! As much of HTTP/1.1 as the service's answers need: one connection that is kept, answers with
//! a `Content-Length`.

use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// No answer of the service is longer.
const LONGEST_BODY: u64 = 1 << 20;

/// A connection to the service, opened anew after an error.
#[derive(Debug)]
pub(crate) struct Client {
    addr: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    pub(crate) fn new(addr: SocketAddr) -> Client {
        Client { addr, stream: None }
    }

    /// Sends one request and reads the whole answer; returns its status. If the future is
    /// dropped on the way, the next request takes a new connection.
    pub(crate) async fn request(&mut self, method: &str, path: &str) -> io::Result<u16> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.addr).await?;
                stream.set_nodelay(true)?;
                BufReader::new(stream)
            }
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n",
            self.addr
        );
        stream.write_all(head.as_bytes()).await?;
        let status = read_answer(&mut stream).await?;
        self.stream = Some(stream);
        Ok(status)
    }
}

async fn read_answer(stream: &mut BufReader<TcpStream>) -> io::Result<u16> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| malformed("no status line"))?;
    let mut length = None;
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Err(malformed("the headers end too early"));
        }
        if line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse::<u64>().ok();
        }
    }
    let length = length.ok_or_else(|| malformed("no Content-Length"))?;
    if length > LONGEST_BODY {
        return Err(malformed("the body is too long"));
    }
    let read = tokio::io::copy(&mut stream.take(length), &mut tokio::io::sink()).await?;
    if read < length {
        return Err(malformed("the body ends too early"));
    }
    Ok(status)
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("malformed answer: {what}"),
    )
}
