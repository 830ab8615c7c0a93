//! The checks checked: on a report written by hand they find no fault, and with one thing
//! changed, that one. They need neither privilege nor a kernel.

use super::check::{self, Complaints};
use super::check_modes;
use super::fixture::{Profile, Variant};
use super::record::Recorded;
use super::report::{Frame, OpenWait, Report, Site, is_in};
use super::stripped::{self, Names};
use super::truth::{TrueOpen, TrueSite, Truth};
use libtest_mimic::{Failed, Trial};
use std::collections::BTreeMap;

const REPORT: &str = include_str!("selftest/report.json");
const TRUTH: &str = include_str!("selftest/truth.json");

fn good() -> Result<Recorded, Failed> {
    let report: Report = serde_json::from_str(REPORT)?;
    let truth: Truth = serde_json::from_str(TRUTH)?;
    Ok(Recorded {
        variant: Variant {
            package: "tokio-newest",
            profile: Profile::Lines,
        },
        pid: 4711,
        truth,
        report,
        folded: "rt;task_sleep;block_by_sleep;do_nanosleep_[k] 61200\n\
                 rt;task_mutex;block_by_mutex 39800\n"
            .into(),
        throughout: BTreeMap::from([(4711, 1_000_000), (4712, 150_000_000)]),
        stolen_ns: 0,
    })
}

fn all(recorded: &Recorded) -> Vec<(&'static str, Complaints)> {
    let (report, truth) = (&recorded.report, &recorded.truth);
    vec![
        ("recall", check::recall(report, truth)),
        ("times", check::times(recorded)),
        ("false_alarms", check::false_alarms(report, truth)),
        ("allowed", check::allowed(recorded)),
        ("accounting", check::accounting(recorded)),
        ("stacks", check::stacks(report)),
        ("losses", check::losses(report)),
        ("lines", check::lines(report, truth)),
        ("tasks", check::tasks(report, truth)),
        ("runtimes", check::runtimes(report, truth)),
        ("folded", check::folded(&recorded.folded, truth)),
        ("target", check::target(recorded, "1.54.1")),
        ("stripped", stripped::states_by(&Names::default(), recorded)),
        ("judges", check_modes::judges(report)),
    ]
}

/// One change, and the checks that have to complain of it: these and no others.
struct Spoiler {
    name: &'static str,
    spoil: fn(&mut Recorded),
    complain: &'static [&'static str],
}

fn site<'a>(recorded: &'a mut Recorded, name: &str) -> &'a mut Site {
    let mut sites = recorded.report.sites.iter_mut();
    sites
        .find(|site| is_in(&site.function, name))
        .expect("the hand-written report has the site")
}

fn true_site<'a>(recorded: &'a mut Recorded, name: &str) -> &'a mut TrueSite {
    let mut sites = recorded.truth.sites.iter_mut();
    sites
        .find(|site| site.function == name)
        .expect("the hand-written truth has the site")
}

/// Adds a blocked wait in a function that is no blocker; its stack, leaf first.
fn add_stray_wait(recorded: &mut Recorded, total_ns: u64, stack: &[&str]) {
    let mut other = site(recorded, "block_by_sleep").clone();
    other.function = "blockers::nested::task_drop".into();
    other.total_ns = total_ns;
    let frames = stack.iter().map(|function| Frame {
        function: (*function).to_owned(),
        inlined: false,
        file: None,
    });
    other.stack = frames.collect();
    recorded.report.sites.push(other);
}

/// Adds a blocked wait of a function that may wait, in the allocator's lock.
fn add_wait_of_innocent(recorded: &mut Recorded, evidence: &str) {
    let stack = &[
        "__lock",
        "__libc_malloc_impl",
        "<tokio::runtime::park::CachedParkThread>::waker",
        "blockers::allowed::allowed_thread_sleep",
    ];
    add_stray_wait(recorded, 156_000, stack);
    if let Some(added) = recorded.report.sites.last_mut() {
        added.function = "blockers::allowed::allowed_thread_sleep".into();
        added.evidence = vec![evidence.into()];
    }
}

const SPOILERS: &[Spoiler] = &[
    Spoiler {
        name: "a missed wait",
        spoil: |recorded| site(recorded, "block_by_sleep").waits -= 1,
        complain: &["recall", "stripped"],
    },
    Spoiler {
        name: "judges that contradict each other",
        spoil: |recorded| recorded.report.judges.disagreed = 1,
        complain: &["stripped", "judges"],
    },
    Spoiler {
        name: "a wait taken for a park",
        spoil: |recorded| recorded.report.losses.mistaken_parks = 1,
        complain: &["judges"],
    },
    Spoiler {
        name: "parks walked each time",
        spoil: |recorded| recorded.report.judges.parks_known = 0,
        complain: &["judges"],
    },
    Spoiler {
        name: "a site in the wrong state",
        spoil: |recorded| site(recorded, "block_by_mutex").state = "runtime".into(),
        complain: &["recall", "times", "lines", "stripped"],
    },
    Spoiler {
        name: "a function with a similar name",
        spoil: |recorded| site(recorded, "block_by_mutex").function = "block_by_mutex_too".into(),
        complain: &["recall", "times", "lines", "false_alarms"],
    },
    Spoiler {
        name: "three per cent too much",
        spoil: |recorded| site(recorded, "block_by_sleep").total_ns += 2_000_000,
        complain: &["times"],
    },
    Spoiler {
        name: "five per cent too little",
        spoil: |recorded| site(recorded, "block_by_sleep").total_ns -= 3_000_000,
        complain: &["times"],
    },
    Spoiler {
        name: "a wakeup that the host held up",
        spoil: |recorded| {
            recorded.stolen_ns = 3_000_000;
            let site = site(recorded, "block_by_sleep");
            site.total_ns -= 3_000_000;
            site.runqueue_ns += 3_000_000;
        },
        complain: &[],
    },
    Spoiler {
        name: "more than the host held up",
        spoil: |recorded| {
            recorded.stolen_ns = 2_000_000;
            let site = site(recorded, "block_by_sleep");
            site.total_ns -= 8_000_000;
            site.runqueue_ns += 8_000_000;
        },
        complain: &["times", "stripped"],
    },
    Spoiler {
        name: "a sleep that the scheduler took for a stay in its queue",
        spoil: |recorded| true_site(recorded, "block_by_sleep").run_delay_ns += 6_000_000,
        complain: &[],
    },
    Spoiler {
        name: "run-queue time made up",
        spoil: |recorded| site(recorded, "block_by_sleep").runqueue_ns += 20_000_000,
        complain: &["times"],
    },
    Spoiler {
        name: "a park taken for a wait",
        spoil: |recorded| {
            let park = site(recorded, "allowed_pool_sleep");
            park.state = "blocked".into();
            park.total_ns = 1_000;
            park.waits = 1;
        },
        complain: &["false_alarms", "allowed", "stripped"],
    },
    Spoiler {
        name: "an allowed wait of unknown state",
        spoil: |recorded| site(recorded, "allowed_pool_sleep").state = "unknown".into(),
        complain: &["allowed", "stripped"],
    },
    Spoiler {
        name: "time of unknown state",
        spoil: |recorded| {
            let states = &mut recorded.report.threads[0].states;
            *states.get_mut("idle").expect("the thread idled") -= 1_000_000;
            states.insert("unknown".into(), 1_000_000);
        },
        complain: &["stripped"],
    },
    Spoiler {
        name: "a blocker's time at another function",
        spoil: |recorded| recorded.folded = recorded.folded.replace("block_by_sleep", "f"),
        complain: &["folded", "stripped"],
    },
    Spoiler {
        name: "an unheard-of blocker",
        spoil: |recorded| {
            let mut other = site(recorded, "block_by_sleep").clone();
            other.function = "somebody::else".into();
            other.stack.clear();
            recorded.report.sites.push(other);
        },
        complain: &["false_alarms", "stripped"],
    },
    Spoiler {
        name: "a microsecond in an allocator's lock",
        spoil: |recorded| {
            add_stray_wait(recorded, 20_000, &[]);
        },
        complain: &[],
    },
    Spoiler {
        name: "a thread that is taken off its CPU in a lock of the runtime",
        spoil: |recorded| {
            let stack = &[
                "<std::sys::sync::mutex::futex::Mutex>::lock_contended",
                "tokio::runtime::scheduler::inject::Inject<T>::push",
                "blockers::nested::task_drop",
            ];
            add_stray_wait(recorded, 8_000_000, stack);
        },
        complain: &["stripped"],
    },
    Spoiler {
        name: "a thread that is taken off its CPU in the allocator's lock",
        spoil: |recorded| {
            let stack = &[
                "__lock",
                "__libc_malloc_impl",
                "blockers::nested::task_drop",
            ];
            add_stray_wait(recorded, 8_000_000, stack);
        },
        complain: &["stripped"],
    },
    Spoiler {
        name: "a block_on that meets another in the allocator's lock before it polls",
        spoil: |recorded| add_wait_of_innocent(recorded, "block-on-root"),
        complain: &["stripped"],
    },
    Spoiler {
        name: "an innocent in the allocator's lock who is blamed for a poll",
        spoil: |recorded| add_wait_of_innocent(recorded, "task poll"),
        complain: &["false_alarms", "allowed", "stripped"],
    },
    Spoiler {
        name: "a lock of one's own",
        spoil: |recorded| {
            let stack = &[
                "<std::sys::sync::mutex::futex::Mutex>::lock_contended",
                "blockers::nested::task_drop",
                "tokio::runtime::task::harness::Harness<T,S>::poll",
            ];
            add_stray_wait(recorded, 8_000_000, stack);
        },
        complain: &["false_alarms", "stripped"],
    },
    Spoiler {
        name: "a nanosecond missing in a thread's times",
        spoil: |recorded| {
            let states = &mut recorded.report.threads[1].states;
            *states.get_mut("running").expect("the thread ran") -= 1;
        },
        complain: &["accounting"],
    },
    Spoiler {
        name: "a thread that was overlooked",
        spoil: |recorded| drop(recorded.report.threads.remove(1)),
        complain: &["accounting"],
    },
    Spoiler {
        name: "CPU time that the scheduler knows nothing of",
        spoil: |recorded| recorded.throughout.extend([(4712, 120_000_000)]),
        complain: &["accounting"],
    },
    Spoiler {
        name: "truncated stacks",
        spoil: |recorded| recorded.report.losses.truncated = 2,
        complain: &["stacks"],
    },
    Spoiler {
        name: "a lost event",
        spoil: |recorded| recorded.report.losses.events = 1,
        complain: &["losses"],
    },
    Spoiler {
        name: "the line after",
        spoil: |recorded| site(recorded, "block_by_mutex").line = Some(53),
        complain: &["lines"],
    },
    Spoiler {
        name: "no task",
        spoil: |recorded| site(recorded, "block_by_mutex").task = None,
        complain: &["tasks"],
    },
    Spoiler {
        name: "a runtime too many",
        spoil: |recorded| {
            let copy = recorded.report.runtimes[0].clone();
            recorded.report.runtimes.push(copy);
        },
        complain: &["runtimes"],
    },
    Spoiler {
        name: "a folded line without a number",
        spoil: |recorded| recorded.folded.push_str("rt;x\n"),
        complain: &["folded"],
    },
    Spoiler {
        name: "another tokio",
        spoil: |recorded| recorded.report.target.tokio_version = Some("1.54.0".into()),
        complain: &["target"],
    },
    Spoiler {
        name: "a context of which nothing else speaks",
        spoil: |recorded| recorded.report.target.tokio.context.kind = "alone".into(),
        complain: &["target"],
    },
];

/// The trials.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        Trial::test("checks::a_right_report_passes", || {
            complain_exactly(&good()?, &[])
        }),
        Trial::test("checks::open_waits", open_waits),
    ];
    trials.extend(SPOILERS.iter().map(|spoiler| {
        let name = format!("checks::{}", spoiler.name.replace(' ', "_"));
        Trial::test(name, || {
            let mut recorded = good()?;
            (spoiler.spoil)(&mut recorded);
            complain_exactly(&recorded, spoiler.complain)
        })
    }));
    trials
}

fn complain_exactly(recorded: &Recorded, expected: &[&str]) -> Result<(), Failed> {
    let mut wrong = Vec::new();
    for (name, complaints) in all(recorded) {
        if complaints.is_empty() == expected.contains(&name) {
            wrong.push(format!("{name}: {complaints:?}"));
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n").into())
    }
}

fn open_waits() -> Result<(), Failed> {
    let Recorded {
        mut report,
        mut truth,
        ..
    } = good()?;
    truth.open = vec![TrueOpen {
        function: "block_by_deadlock".into(),
        threads: 1,
    }];
    if check_modes::wedged(&report, &truth, false).len() != 3 {
        return Err("no open wait, no starvation and no verdict are three complaints".into());
    }
    report.open_waits.push(OpenWait {
        tid: 4712,
        function: "blockers::wedge::block_by_deadlock".into(),
        state: "blocked".into(),
        since_ns: 1_300_000_000,
        before_recording: false,
        object: None,
        holder: None,
        waiters: 0,
    });
    report.runtimes[0].starved_ns = 1_300_000_000;
    report.verdict.kind = "wedged".into();
    if !check_modes::wedged(&report, &truth, false).is_empty() {
        return Err("nothing is wrong with this deadlock".into());
    }
    if check_modes::wedged(&report, &truth, true).is_empty() {
        return Err("this deadlock did not begin before the recording".into());
    }
    Ok(())
}
