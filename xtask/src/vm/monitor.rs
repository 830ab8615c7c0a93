//! QEMU's monitor: where a guest hangs.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// What is asked of a guest that hangs: the registers of its CPUs, and that each of them is
/// interrupted. The kernel takes an interrupt that it does not know for a reason to panic (its
/// parameter `unknown_nmi_panic`), and then writes where it was.
const QUESTIONS: &str = "info registers -a\nnmi\n";

/// So long the answers may take.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Monitor {
    socket: PathBuf,
}

impl Monitor {
    pub(super) fn at(socket: PathBuf) -> Monitor {
        Monitor { socket }
    }

    /// The value of QEMU's option `-monitor`.
    pub(super) fn option(&self) -> String {
        format!("unix:{},server=on,wait=off", self.socket.display())
    }

    /// Tells on standard error what each CPU executes, and lets the kernel write its stacks to the
    /// console.
    pub(super) fn show_where_it_hangs(&self) {
        match self.ask() {
            Ok(answers) => {
                eprintln!("the guest hangs; what its CPUs execute:");
                for line in told(&answers) {
                    eprintln!("  {}", line.escape_debug());
                }
            }
            Err(error) => eprintln!("the guest hangs, and its monitor does not answer: {error}"),
        }
    }

    fn ask(&self) -> std::io::Result<String> {
        let mut monitor = UnixStream::connect(&self.socket)?;
        monitor.set_read_timeout(Some(PATIENCE))?;
        monitor.write_all(QUESTIONS.as_bytes())?;
        // QEMU ends, and closes the connection, when the guest's kernel has panicked.
        let mut answers = Vec::new();
        let mut part = [0; 4096];
        while let Ok(read @ 1..) = monitor.read(&mut part) {
            answers.extend_from_slice(&part[..read]);
        }
        Ok(String::from_utf8_lossy(&answers).into_owned())
    }
}

/// The lines that tell where the CPUs are.
fn told(answers: &str) -> impl Iterator<Item = &str> {
    let of_interest = ["CPU#", "RIP=", "RSP="];
    let lines = answers.lines().map(str::trim_end);
    lines.filter(move |line| of_interest.iter().any(|part| line.contains(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cpus_execute_is_found() {
        let answers = "QEMU 10.0.2 monitor\r\n(qemu) info registers -a\r\n\r\nCPU#0\r\n\
            RAX=00000000 RBX=1\r\nRSI=0 RDI=0 RBP=0 RSP=ffffffff82a03e90\r\n\
            RIP=ffffffff81a0b00f RFL=00000246\r\n\r\nCPU#1\r\nRIP=ffffffff81000000 RFL=2\r\n";
        let told: Vec<&str> = told(answers).collect();
        assert_eq!(told.len(), 5, "{told:?}");
        assert_eq!(told[0], "CPU#0");
        assert!(told[4].starts_with("RIP=ffffffff81000000"));
    }
}
