//! `holdup dump` on programs that hang or are slow although no worker is blocked, and on one whose blocked
//! worker keeps the task that it waits for.

use super::dump::{Outcome, Test, holdup, trial};
use super::fixture::Variant;
use libtest_mimic::Trial;
use std::thread;
use std::time::Duration;

/// The pool is full for three seconds.
const WITHIN: Duration = Duration::from_millis(300);

/// Every trial.
pub(crate) fn trials() -> Vec<Trial> {
    let all: [(&str, Test); 3] = [
        ("dump::tasks_that_await_each_other", || {
            says(
                "async-deadlock",
                &["\nHEALTHY ", "wait for each other", "2 idle"],
            )
        }),
        ("dump::a_task_behind_a_block_on", || {
            let told = ["block_on_task_behind", "in the LIFO slot", "it never comes"];
            says("nested-block-on", &told)
        }),
        ("dump::a_full_pool", || {
            let told = ["wait_in_full_pool", "4 threads", "all 4 busy"];
            says("full-pool", &told)
        }),
    ];
    all.map(|(name, run)| trial(name.to_owned(), run)).into()
}

/// Whether a dump of the fixture in a mode has all of these texts.
fn says(mode: &str, texts: &[&str]) -> Outcome {
    let mut fixture = Variant::DEFAULT.start(mode)?;
    fixture.go()?;
    let is_halted = mode != "full-pool";
    if is_halted {
        fixture.truth()?;
    } else {
        thread::sleep(WITHIN);
    }
    let output = holdup(&["dump", "-p", &fixture.pid().to_string()])?;
    if !is_halted {
        fixture.truth()?;
    }
    fixture.finish()?;
    let dump = String::from_utf8_lossy(&output.stdout);
    // Lines may be wrapped anywhere.
    let words: Vec<&str> = dump.split_whitespace().collect();
    let line = words.join(" ");
    let has = |text: &&&str| match text.strip_prefix('\n') {
        Some(begin) => dump.contains(&format!("\n{begin}")),
        None => line.contains(**text),
    };
    match texts.iter().find(|text| !has(text)) {
        None => Ok(()),
        Some(missing) => Err(format!("no {missing:?} in\n{dump}").into()),
    }
}
