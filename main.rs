//! A program that blocks tokio workers in known ways and keeps its own books.
//!
//! `blockers MODE DIR` prints `ready PID`, waits for `go` on standard input, does what the mode
//! says, prints one line of JSON with the truth, and ends when standard input is closed.

mod allowed;
mod churn;
mod clock;
mod current_thread;
mod files;
mod helper;
mod lengths;
mod locks;
mod midway;
mod modes;
mod nested;
mod net;
mod processes;
mod protocol;
mod scenarios;
mod truth;
mod wedge;

fn main() -> std::process::ExitCode {
    modes::main()
}
