//! What the threads that ended waits did meanwhile: they ran, waited themselves, or were idle.

use super::check::{Complaints, ms};
use super::fixture::Variant;
use super::live_recording::{Outcome, Recorded, Recording, no_complaints};
use super::privilege;
use super::report::{Blame, BlameChain, is_in};
use libtest_mimic::Trial;

type Check = fn(&Recorded) -> Complaints;

/// Every trial.
pub(crate) fn trials() -> Vec<Trial> {
    let all: [(&'static str, Check); 3] = [
        ("holder-runs", runs),
        ("holder-waits", waits),
        ("waker-idles", idles),
    ];
    let trials = all.into_iter().map(|(mode, check)| {
        Trial::ignorable_test(format!("blame::{mode}"), move || {
            privilege::unless_skipped(privilege::missing(), || blame(mode, check))
        })
    });
    trials.collect()
}

fn blame(mode: &str, check: fn(&Recorded) -> Complaints) -> Outcome {
    let mut fixture = Variant::DEFAULT.start(mode)?;
    let recording = Recording::start(&["-p", &fixture.pid().to_string()])?;
    fixture.go()?;
    fixture.truth()?;
    let recorded = recording.stop()?;
    fixture.finish()?;
    no_complaints(check(&recorded))
}

/// What the thread did that ended the waits in a function.
struct Did {
    function: &'static str,
    /// How the text says it.
    words: &'static str,
    /// How long it did so, of the blame.
    time: fn(&Blame) -> u64,
    /// How many milliseconds a wait that is, at least and at most.
    each: [u64; 2],
    /// What it hardly did.
    not: &'static [&'static str],
}

/// Who holds the lock computes for 60 ms with it. Its polls are seen from the first sample to the last one, a
/// hundredth of a second apart.
fn runs(recorded: &Recorded) -> Complaints {
    let did = Did {
        function: "wait_for_one_that_runs",
        words: "running",
        time: |blame| alone(blame, "running"),
        each: [35, 61],
        not: &["idle"],
    };
    did.complaints(recorded)
}

/// Who holds the lock sleeps for 25 ms with it.
fn waits(recorded: &Recorded) -> Complaints {
    let did = Did {
        function: "wait_for_one_that_waits",
        words: "hold_and_wait (sleep)",
        time: asleep,
        each: [20, 60],
        not: &["idle", "running"],
    };
    did.complaints(recorded)
}

/// Who sends the message waits for a timer before, for 25 ms, as it should.
fn idles(recorded: &Recorded) -> Complaints {
    let did = Did {
        function: "wait_for_one_that_is_idle",
        words: "idle",
        time: |blame| alone(blame, "idle"),
        each: [20, 60],
        not: &["running"],
    };
    did.complaints(recorded)
}

impl Did {
    fn complaints(&self, recorded: &Recorded) -> Complaints {
        let (blame, mut complaints) = match of(recorded, self.function) {
            Ok(found) => found,
            Err(complaint) => return vec![complaint],
        };
        let time = (self.time)(&blame);
        // On a machine that is busy it had to wait for its CPU, too.
        let queued = alone(&blame, "run_queue");
        let each = time / blame.waits.max(1) / 1_000_000;
        let others: u64 = self.not.iter().map(|end| alone(&blame, end)).sum();
        let [least, most] = self.each;
        let is_told = (time + queued) * 10 >= blame.total_ns * 7 && (least..=most).contains(&each);
        if !is_told || others * 20 > blame.total_ns {
            complaints.push(format!(
                "{} for {each} ms a wait, in line for a CPU {}, {:?} {}: {blame:?}",
                self.words,
                ms(queued),
                self.not,
                ms(others)
            ));
        }
        complaints.extend(says(recorded, self.words));
        complaints
    }
}

/// The time in which the thread that ended the wait slept.
fn asleep(blame: &Blame) -> u64 {
    let sleeps = |chain: &&BlameChain| {
        let last = chain.links.last();
        let is_it = last
            .is_some_and(|link| is_in(&link.function, "hold_and_wait") && link.cause == "sleep");
        chain.end == "outside" && is_it
    };
    let chains = blame.chains.iter().filter(sleeps);
    chains.map(|chain| chain.total_ns).sum()
}

/// The blame for the waits in a function, whose parts are the whole.
fn of(recorded: &Recorded, function: &str) -> Result<(Blame, Complaints), String> {
    let mut sites = recorded.report.sites.iter();
    let site = sites.find(|site| site.state == "blocked" && is_in(&site.function, function));
    let site = site.ok_or_else(|| format!("nobody was blocked in {function}"))?;
    let blame = site.blame.clone();
    let blame = blame.ok_or_else(|| format!("nobody is to blame for {}", site.describe()))?;
    let mut complaints = Complaints::new();
    let chains: u64 = blame.chains.iter().map(|chain| chain.total_ns).sum();
    if chains + blame.more_ns != blame.total_ns {
        complaints.push(format!("the parts are not the whole: {blame:?}"));
    }
    // All but some that were too short to be recorded by themselves.
    if blame.total_ns * 10 < site.total_ns * 9 {
        complaints.push(format!(
            "for {} of {}",
            ms(blame.total_ns),
            ms(site.total_ns)
        ));
    }
    Ok((blame, complaints))
}

/// The time in which the thread that ended the wait was in no wait itself, by what it did.
fn alone(blame: &Blame, end: &str) -> u64 {
    let chains = blame.chains.iter();
    let chains = chains.filter(|chain| chain.links.is_empty() && chain.end == end);
    chains.map(|chain| chain.total_ns).sum()
}

/// The text says so below the site.
fn says(recorded: &Recorded, what: &str) -> Complaints {
    let lines = recorded.text.lines();
    let mut meanwhile = lines.filter(|line| line.trim_start().starts_with("meanwhile "));
    match meanwhile.any(|line| line.contains(what)) {
        true => Complaints::new(),
        false => vec![format!("no line says {what:?}:\n{}", recorded.text)],
    }
}
