//! Waits for sockets and pipes.

use crate::helper::Helper;
use crate::lengths::lengths;
use crate::scenarios::ROUNDS;
use crate::truth::{Site, site};
use std::io::{self, PipeReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

site!(TCP_READ, block_by_tcp_read, ["blocked"]);
site!(TCP_ACCEPT, block_by_tcp_accept, ["blocked"]);
site!(UNIX_READ, block_by_unix_read, ["blocked"]);
site!(UDP_RECV, block_by_udp_recv, ["blocked"]);
site!(PIPE_READ, block_by_pipe_read, ["blocked"]);
site!(POLL, block_by_poll, ["blocked"]);

pub static SITES: &[&Site] =
    &[&TCP_READ, &TCP_ACCEPT, &UNIX_READ, &UDP_RECV, &PIPE_READ, &POLL];

#[inline(never)]
fn block_by_tcp_read(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let watch = TCP_READ.start();
    let read = stream.read(buffer);
    watch.stop();
    read
}

#[inline(never)]
fn block_by_tcp_accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let watch = TCP_ACCEPT.start();
    let accepted = listener.accept();
    watch.stop();
    accepted.map(|(stream, _)| stream)
}

#[inline(never)]
fn block_by_unix_read(stream: &mut UnixStream, buffer: &mut [u8]) -> io::Result<usize> {
    let watch = UNIX_READ.start();
    let read = stream.read(buffer);
    watch.stop();
    read
}

#[inline(never)]
fn block_by_udp_recv(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<usize> {
    let watch = UDP_RECV.start();
    let received = socket.recv(buffer);
    watch.stop();
    received
}

#[inline(never)]
fn block_by_pipe_read(pipe: &mut PipeReader, buffer: &mut [u8]) -> io::Result<usize> {
    let watch = PIPE_READ.start();
    let read = pipe.read(buffer);
    watch.stop();
    read
}

#[inline(never)]
fn block_by_poll(fd: RawFd) -> i32 {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let watch = POLL.start();
    let ready = poll_forever(&mut poll);
    watch.stop();
    ready
}

#[inline(always)]
fn poll_forever(poll: &mut libc::pollfd) -> i32 {
    // SAFETY: the pointer is to one live pollfd, and the count says one.
    unsafe { libc::poll(poll, 1, -1) }
}

pub async fn task_tcp_read(helper: Helper) -> io::Result<()> {
    let (mut near, far) = helper.ask(tcp_pair).await?;
    let mut buffer = [0; 16];
    for length in lengths(21, ROUNDS) {
        let mut far = far.try_clone()?;
        let entry = helper.later(length, move || drop(far.write(b"late"))).await;
        entry.enter();
        block_by_tcp_read(&mut near, &mut buffer)?;
    }
    Ok(())
}

pub async fn task_tcp_accept(helper: Helper) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    for length in lengths(22, ROUNDS) {
        let entry = helper.later(length, move || drop(TcpStream::connect(address))).await;
        entry.enter();
        block_by_tcp_accept(&listener)?;
    }
    Ok(())
}

pub async fn task_unix_read(helper: Helper) -> io::Result<()> {
    let (mut near, far) = UnixStream::pair()?;
    let mut buffer = [0; 16];
    for length in lengths(23, ROUNDS) {
        let mut far = far.try_clone()?;
        let entry = helper.later(length, move || drop(far.write(b"late"))).await;
        entry.enter();
        block_by_unix_read(&mut near, &mut buffer)?;
    }
    Ok(())
}

pub async fn task_udp_recv(helper: Helper) -> io::Result<()> {
    let near = UdpSocket::bind("127.0.0.1:0")?;
    let far = UdpSocket::bind("127.0.0.1:0")?;
    far.connect(near.local_addr()?)?;
    let mut buffer = [0; 16];
    for length in lengths(24, ROUNDS) {
        let far = far.try_clone()?;
        let entry = helper.later(length, move || drop(far.send(b"late"))).await;
        entry.enter();
        block_by_udp_recv(&near, &mut buffer)?;
    }
    Ok(())
}

pub async fn task_pipe_read(helper: Helper) -> io::Result<()> {
    let (mut near, far) = io::pipe()?;
    let mut buffer = [0; 16];
    for length in lengths(25, ROUNDS) {
        let mut far = far.try_clone()?;
        let entry = helper.later(length, move || drop(far.write(b"late"))).await;
        entry.enter();
        block_by_pipe_read(&mut near, &mut buffer)?;
    }
    Ok(())
}

pub async fn task_poll(helper: Helper) -> io::Result<()> {
    let (mut near, far) = UnixStream::pair()?;
    let mut buffer = [0; 16];
    for length in lengths(26, ROUNDS) {
        let mut far = far.try_clone()?;
        let entry = helper.later(length, move || drop(far.write(b"late"))).await;
        entry.enter();
        block_by_poll(near.as_raw_fd());
        near.read(&mut buffer)?;
    }
    Ok(())
}

fn tcp_pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    Ok((near, far))
}
