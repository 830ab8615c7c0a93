//! The payer's gateway: a process of its own, asked one line at a time over TCP.
//!
//! | question | answer | after |
//! |---|---|---|
//! | `ELIGIBILITY claim` | `COVERED` | 200 ms |
//! | `RATE claim` | cents | 40 ms |
//! | `SUBMIT claim attempt` | `BUSY` twice, then `ACCEPTED` | at once |

use anyhow::Context as _;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};

const PATIENCE: Duration = Duration::from_secs(5);

/// Where the payer's gateway listens.
#[derive(Clone, Copy, Debug)]
pub struct Gateway {
    addr: SocketAddr,
}

impl Gateway {
    /// Asks over a blocking socket. Right in a program of threads; on a tokio worker it holds up
    /// every other task of that worker for as long as the gateway takes.
    pub fn ask_blocking(self, question: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.addr, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(question.as_bytes())?;
        stream.write_all(b"\n")?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        complete(answer)
    }

    /// Asks over tokio's socket: the worker polls other tasks until the answer is there.
    pub async fn ask(self, question: &str) -> io::Result<String> {
        let conversation = async {
            let mut stream = tokio::net::TcpStream::connect(self.addr).await?;
            stream.write_all(format!("{question}\n").as_bytes()).await?;
            let mut answer = String::new();
            tokio::io::BufReader::new(stream)
                .read_line(&mut answer)
                .await?;
            complete(answer)
        };
        tokio::time::timeout(PATIENCE, conversation).await?
    }
}

fn complete(answer: String) -> io::Result<String> {
    match answer.strip_suffix('\n') {
        Some(line) => Ok(line.to_owned()),
        None => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the gateway hung up",
        )),
    }
}

/// The gateway's process; it ends with this value.
#[derive(Debug)]
pub struct GatewayProcess {
    child: Child,
    gateway: Gateway,
}

impl GatewayProcess {
    /// Starts this program once more, as the gateway; a fast one takes no time.
    pub fn start(fast: bool) -> anyhow::Result<GatewayProcess> {
        let program = std::env::current_exe()?;
        let mut child = Command::new(program)
            .arg("--serve-upstream")
            .args(fast.then_some("--fast-gateway"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C in a terminal is for the service, which then ends this one.
            .process_group(0)
            .spawn()
            .context("cannot start the payer's gateway")?;
        let mut line = String::new();
        let stdout = child
            .stdout
            .take()
            .context("the gateway has no standard output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let addr = line
            .trim()
            .parse()
            .context("the gateway did not tell its address")?;
        Ok(GatewayProcess {
            child,
            gateway: Gateway { addr },
        })
    }

    /// Where it listens.
    pub fn gateway(&self) -> Gateway {
        self.gateway
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        // It ends by itself when its standard input closes, even if this process is killed.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Answers the service until standard input closes; where it is to be fast, without the delays.
pub fn serve(fast: bool) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    writeln!(io::stdout(), "{}", listener.local_addr()?)?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream, fast));
        }
    });
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn answer(mut stream: TcpStream, fast: bool) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut question = String::new();
    BufReader::new(&stream).read_line(&mut question)?;
    let words: Vec<&str> = question.split_whitespace().collect();
    let (delay, reply) = match words.as_slice() {
        ["ELIGIBILITY", _] => (Duration::from_millis(200), "COVERED\n"),
        ["RATE", _] => (Duration::from_millis(40), "12950\n"),
        ["SUBMIT", _, "1" | "2"] => (Duration::ZERO, "BUSY\n"),
        ["SUBMIT", _, _] => (Duration::ZERO, "ACCEPTED\n"),
        _ => (Duration::ZERO, "WHAT?\n"),
    };
    if !fast {
        thread::sleep(delay);
    }
    stream.write_all(reply.as_bytes())
}
