//! Python's lock is held while a result is on its way: whoever brings it waits for the lock, for as
//! long as it is held after the answer came.

use super::super::fetch;
use super::super::list::Expect;
use super::super::outcome::Checked;
use super::super::peer::{Peer, Speaks};
use super::{Subject, Truth, judge};
use anyhow::{Context as _, Result, bail};
use children::{Child, Stream};
use std::time::Duration;

const ROUNDS: usize = 10;
/// The answer comes so long after the request: the lock is held by then.
const ANSWER: Duration = Duration::from_millis(120);
/// How long the lock is held: as in `gil.py`.
const HELD: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn check(
    subject: &Subject<'_>,
    [setup, call]: [&str; 2],
    speaks: Speaks,
    after: Option<Duration>,
    expect: Expect,
) -> Result<Checked> {
    let peer = Peer::start(speaks, ANSWER)?;
    let mut python = fetch::python();
    python
        .args(["-c", include_str!("../gil.py"), &ROUNDS.to_string()])
        .args([&format!("http://{}/", peer.addr), setup, call])
        .env("PYTHONPATH", &subject.folder)
        // One that is set would stand between the client and the peer.
        .env("no_proxy", "*");
    let mut host = Child::start("the Python program", &mut python, Stream::Stdout)?;
    host.find_line("READY", PATIENCE, |line| line == "READY")?;
    let recording = subject.recorder.attach(host.id())?;
    host.write_line("go")?;
    let (mut called, mut held) = (Vec::new(), Vec::new());
    loop {
        let (_, line) = host.read_line(PATIENCE)?;
        if line == "DONE" {
            break;
        }
        if let Some(error) = line.strip_prefix("ERROR ") {
            // A refusal is a result too; one that did not come is none.
            if error.starts_with("TimeoutError") {
                bail!("a call was never answered");
            }
        } else if let Some(at) = line.strip_prefix("HELD ") {
            held.push(Duration::from_secs_f64(at.parse().context("not a time")?));
        } else if let Some(at) = line.strip_prefix("CALLED ") {
            called.push(Duration::from_secs_f64(at.parse().context("not a time")?));
        }
    }
    let report = recording.end()?;
    drop(host);
    let results = match after {
        Some(after) => called.iter().map(|at| *at + after).collect(),
        None => peer.answers(),
    };
    let truth = truth(&results, &held, expect)?;
    Ok(Checked::Seen(judge(
        subject.package,
        &report,
        &truth,
        "results waited for Python's lock",
    )))
}

/// From each answer that came while the lock was held until it was let go.
fn truth(answers: &[Duration], held: &[Duration], state: Expect) -> Result<Truth<'static>> {
    let waits: Vec<_> = held
        .iter()
        .filter_map(|end| {
            let during = |answer: &&Duration| **answer < *end && **answer + HELD > *end;
            // A client may speak on, but has its result.
            let answer = answers.iter().find(during)?;
            Some(*answer..*end)
        })
        .collect();
    if waits.len() < ROUNDS {
        bail!("only {} of {ROUNDS} answers came in time", waits.len());
    }
    Ok(Truth {
        state,
        calls: &["futex"],
        waits,
        // Python waits for its lock in pieces of 5 ms.
        single: false,
        // It runs Python alone, and holds the lock.
        without_main: true,
        besides: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_came_while_the_lock_was_held_counts() {
        let second = |n: usize| Duration::from_secs(n as u64);
        let held: Vec<_> = (1..=ROUNDS).map(second).collect();
        let mut answers: Vec<_> = held
            .iter()
            .map(|end| *end - Duration::from_millis(300))
            .collect();
        answers.push(Duration::from_millis(100));
        let truth = truth(&answers, &held, Expect::Blocked).unwrap();
        assert_eq!(truth.waits.len(), 10);
        assert_eq!(truth.total(), Duration::from_secs(3));
        assert!(super::truth(&answers[1..], &held, Expect::Blocked).is_err());
    }
}
