//! Losses, forced: with tables made small every loss is counted, exactly where that can be known,
//! and the times add up all the same. And a storm of waits, in which nothing may be lost that is
//! not counted.

use super::check::{self, Complaints, ms};
use super::check_causes;
use super::fixture::{Profile, Variant};
use super::privilege;
use super::record::{Ending, Extra, Recorded, record_with};
use super::report::is_in;
use super::run::Check;
use libtest_mimic::Trial;

/// Comparisons, or what stands for them, without which the shadow check has shown nothing.
const ENOUGH: u64 = 500;

struct Case {
    name: &'static str,
    variant: Variant,
    mode: &'static str,
    ending: Ending,
    extra: Extra,
    check: Check,
}

const fn small(name: &'static str, mode: &'static str, limits: &'static str, check: Check) -> Case {
    Case {
        name,
        variant: Variant::DEFAULT,
        mode,
        ending: Ending::Stays,
        extra: Extra { args: &[], limits },
        check,
    }
}

impl Case {
    const fn with(mut self, args: &'static [&'static str]) -> Case {
        self.extra.args = args;
        self
    }

    const fn built(mut self, profile: Profile) -> Case {
        self.variant.profile = profile;
        self
    }

    const fn ending(mut self, ending: Ending) -> Case {
        self.ending = ending;
        self
    }
}

const CASES: &[Case] = &[
    small("ring_full", "churn", "EVENTS=4096", |recorded| {
        let lost = |name| recorded.report.losses.cause(name);
        let records = lost("ring_full_waits") + lost("ring_full_stacks") + lost("ring_full_other");
        let mut complaints = some("records that found no room", records);
        complaints.extend(sums_are_whole(recorded));
        complaints
    }),
    // The last entry of the filter is missing, which every stop wants to empty.
    small(
        "no_orderly_stop",
        "exit-midway",
        "FILTER=4095",
        sums_are_whole,
    )
    .ending(Ending::Exits),
    small("stack_table_full", "scenarios", "STACKS=8", |recorded| {
        let losses = &recorded.report.losses;
        let mut complaints = some("stacks without a number", losses.cause("stack_table_full"));
        complaints.extend(sums_are_whole(recorded));
        // Those that have not ended are no finished waits.
        let open = recorded.report.threads.len() as u64;
        if losses.unknown_waits + open < losses.cause("stack_table_full") {
            complaints.push(format!("only {} waits are unknown", losses.unknown_waits));
        }
        complaints
    }),
    small("aggregate_full", "scenarios", "AGGREGATES=8", |recorded| {
        let losses = &recorded.report.losses;
        let lost = losses.cause("aggregate_full");
        let mut complaints = some("waits in no sum", lost);
        if losses.summed + lost != losses.waits {
            complaints.push(format!(
                "{} waits, {} in sums and {lost} lost",
                losses.waits, losses.summed
            ));
        }
        complaints
    }),
    small("thread_table_full", "churn", "THREAD_TABLE=1", |recorded| {
        let lost = recorded.report.losses.cause("waits_of_no_thread");
        let made: u64 = recorded.truth.sites.iter().map(|site| site.waits).sum();
        if lost < made {
            return vec![format!("{lost} waits lost, {made} were made")];
        }
        some("waits of no thread", lost)
    }),
    small(
        "userspace_full",
        "churn",
        "timeline=100,frames=2000,shortened=5,ended=50",
        |recorded| {
            let losses = &recorded.report.losses;
            let mut complaints = Vec::new();
            let losses_there = [
                "timeline_full",
                "stacks_shortened",
                "stacks_left_out",
                "threads_left_out",
            ];
            for name in losses_there {
                complaints.extend(some(name, losses.cause(name)));
            }
            let short = recorded.truth.sites.iter();
            let born: u64 = short
                .filter(|site| site.function == "allowed_short_life")
                .map(|site| site.calls)
                .sum();
            let kept = recorded.report.threads.len() as u64;
            if kept + losses.cause("threads_left_out") < born {
                complaints.push(format!("{kept} threads kept of {born}"));
            }
            if kept > 50 + 20 {
                complaints.push(format!("{kept} threads were kept, 50 that ended may be"));
            }
            complaints
        },
    ),
    // Every wait is told right all the same.
    small(
        "no_room_for_whole_stacks",
        "scenarios",
        "stacks=1",
        |recorded| {
            let (report, truth) = (&recorded.report, &recorded.truth);
            let mut complaints = some("short stacks", report.losses.cause("stacks_shortened"));
            if report.losses.cause("stacks_left_out") > 0 {
                complaints.push("there was no room for short stacks".into());
            }
            complaints.extend(check::recall(report, truth));
            complaints.extend(check::times(recorded));
            complaints.extend(check::false_alarms(report, truth));
            complaints.extend(check::allowed(recorded));
            complaints.extend(check::lines(report, truth));
            complaints.extend(check::tasks(report, truth));
            complaints.extend(check::runtimes(report, truth));
            complaints.extend(check_causes::causes(report, truth));
            complaints.extend(sums_are_whole(recorded));
            complaints
        },
    )
    .built(Profile::Lines),
    small(
        "ring_full_for_copies",
        "scenarios",
        "EVENTS=4096",
        |recorded| {
            let losses = &recorded.report.losses;
            let mut complaints = some("copies without room", losses.cause("ring_full_copies"));
            complaints.extend(sums_are_whole(recorded));
            complaints
        },
    )
    .with(&["--shadow-check", "1"]),
    small(
        "wakers_and_sums_full",
        "scenarios",
        "STACKS=40,wakers=1,sums=4",
        |recorded| {
            let losses = &recorded.report.losses;
            let mut complaints = Vec::new();
            for name in ["waker_stack_table_full", "wakers_left_out", "sums_left_out"] {
                complaints.extend(some(name, losses.cause(name)));
            }
            if losses.summed + losses.cause("sums_left_out") < losses.waits {
                complaints.push(format!("{} waits: {losses:?}", losses.waits));
            }
            complaints
        },
    ),
    small("rows_full", "exit-midway", "rows=2000", |recorded| {
        let losses = &recorded.report.losses;
        let mut complaints = some("modules without room", losses.cause("rows_full"));
        complaints.extend(some(
            "waits that were not walked to the end",
            losses.truncated,
        ));
        complaints.extend(sums_are_whole(recorded));
        complaints
    })
    .ending(Ending::Exits),
    small("crowded", "crowded", "", |recorded| {
        let losses = &recorded.report.losses;
        let mut complaints = some("mappings left out", losses.cause("mappings_left_out"));
        complaints.extend(some("modules left out", losses.cause("modules_left_out")));
        complaints.extend(sums_are_whole(recorded));
        complaints
    }),
    small("unwalkable", "unwalkable", "", unwalkable),
    small(
        "unwalkable_before",
        "unwalkable-before",
        "",
        unwalkable_before,
    ),
    Case {
        name: "storm_of_mappings",
        variant: Variant::DEFAULT,
        mode: "mappings",
        ending: Ending::Stays,
        extra: Extra {
            args: &["-m", "1us"],
            limits: "",
        },
        check: mappings,
    },
    small("hasty_threads", "hasty", "", |recorded| {
        let report = &recorded.report;
        let mut complaints = check::losses(report);
        // Each of these threads sleeps once.
        let born = recorded.truth.sites.first().map_or(0, |site| site.calls);
        let threads = report.threads.len() as u64;
        let waits: u64 = report.threads.iter().map(|thread| thread.waits).sum();
        if born < 15_000 || threads < born || waits < born {
            complaints.push(format!(
                "{born} were born: {threads} threads, {waits} waits"
            ));
        }
        complaints.extend(sums_are_whole(recorded));
        complaints
    }),
    Case {
        name: "storm",
        variant: Variant::DEFAULT,
        mode: "storm",
        ending: Ending::Stays,
        extra: Extra {
            args: &["-m", "1us"],
            limits: "",
        },
        check: storm,
    },
    Case {
        name: "shadow_check",
        variant: Variant::DEFAULT,
        mode: "scenarios",
        ending: Ending::Stays,
        extra: Extra {
            args: &["--shadow-check", "1"],
            limits: "",
        },
        check: shadow,
    },
    Case {
        name: "shadow_check_musl",
        variant: Variant {
            package: "tokio-newest",
            profile: Profile::Musl,
        },
        mode: "scenarios",
        ending: Ending::Stays,
        extra: Extra {
            args: &["--shadow-check", "1"],
            limits: "",
        },
        check: shadow_gives_up,
    },
    Case {
        name: "holders",
        variant: Variant::DEFAULT,
        mode: "held",
        ending: Ending::Wedged,
        extra: Extra {
            args: &[],
            limits: "",
        },
        check: holders,
    },
];

/// The trials.
pub(crate) fn trials() -> Vec<Trial> {
    let trial = |case: &'static Case| {
        Trial::ignorable_test(format!("losses::{}", case.name), || {
            let missing = privilege::missing().or_else(|| case.variant.missing());
            privilege::unless_skipped(missing, || {
                let recorded = record_with(case.variant, case.mode, case.ending, case.extra)?;
                let mut complaints = (case.check)(&recorded);
                // A thread that found no place has no times.
                if recorded.report.losses.cause("waits_of_no_thread") == 0 {
                    complaints.extend(check::accounting(&recorded));
                }
                if complaints.is_empty() {
                    Ok(())
                } else {
                    Err(complaints.join("\n").into())
                }
            })
        })
    };
    CASES.iter().map(trial).collect()
}

fn some(what: &str, count: u64) -> Complaints {
    println!("{what}: {count}");
    if count == 0 {
        vec![format!("no {what}: nothing was tried")]
    } else {
        Vec::new()
    }
}

/// Whatever else is lost, every wait is in a sum.
fn sums_are_whole(recorded: &Recorded) -> Complaints {
    let losses = &recorded.report.losses;
    if losses.waits == losses.summed {
        Vec::new()
    } else {
        vec![format!("{} waits, {} in sums", losses.waits, losses.summed)]
    }
}

const FEW: u64 = 5;

/// Those who wait for the lock of the target's mappings are hardly ever woken by us.
fn mappings(recorded: &Recorded) -> Complaints {
    let sites = recorded.report.sites.iter();
    let sites = sites.filter(|site| is_in(&site.function, "block_by_mapping"));
    let wakers = sites.flat_map(|site| &site.wakers);
    let (mut all, mut ours) = (0, 0);
    for waker in wakers {
        all += waker.waits;
        if waker.pid != recorded.pid && waker.thread.starts_with("holdup") {
            ours += waker.waits;
        }
    }
    println!("{ours} of {all} waits for the lock of the mappings were ended by holdup");
    let mut complaints = some(
        "waits for the lock of the mappings",
        all.saturating_sub(100),
    );
    // A handful says nothing.
    if ours > FEW && ours * 100 >= all {
        complaints.push(format!("{ours} of {all} waits were ended by holdup"));
    }
    complaints
}

/// By function: why its stack cannot be walked to its end.
const UNWALKABLE: &[(&str, &str)] = &[
    ("block_too_deep", "too_deep"),
    ("block_unmapped", "unmapped"),
    ("block_without_row", "no_row"),
    ("block_unsupported", "unsupported"),
    ("block_unreadable", "unreadable"),
    ("block_without_progress", "no_progress"),
];

/// Every wait is there, with the frames that could be walked, and each is counted by its cause.
fn unwalkable(recorded: &Recorded) -> Complaints {
    let report = &recorded.report;
    let losses = &report.losses;
    let mut complaints = sums_are_whole(recorded);
    let mut all = 0;
    let (mut wrong, mut not_unmapped, mut more_without_progress) = (0, 0, 0);
    for (function, cause) in UNWALKABLE {
        let made = recorded.truth.sites.iter();
        let made = made.filter(|site| site.function == *function);
        let made: u64 = made.map(|site| site.waits).sum();
        let found = report.sites.iter().filter(|site| {
            site.state == "unknown"
                && site
                    .stack
                    .iter()
                    .any(|frame| is_in(&frame.function, function))
        });
        let found: u64 = found.map(|site| site.waits).sum();
        all += made;
        if made == 0 || found != made {
            complaints.push(format!(
                "{function}: {made} waits were made, {found} are in the report"
            ));
        }
        let counted = losses.cause(cause);
        // Code in memory without a file is a JIT compiler's, once it is known to be there: it is left
        // by frame pointers, and this code has none.
        let elsewhere = match *cause {
            "unmapped" if counted > 0 => &mut not_unmapped,
            "no_progress" => &mut more_without_progress,
            _ => &mut wrong,
        };
        *elsewhere += counted.abs_diff(made);
    }
    if wrong > 0 || not_unmapped != more_without_progress {
        complaints.push(format!(
            "the causes are not what they should be: {:?}",
            losses.by_cause
        ));
    }
    if losses.truncated != all || losses.unknown_waits != all {
        complaints.push(format!("{all} should be truncated and unknown: {losses:?}"));
    }
    complaints
}

/// Stacks of waits from before the recording that cannot be walked to their ends are counted as those of any
/// other, each by its cause.
fn unwalkable_before(recorded: &Recorded) -> Complaints {
    let losses = &recorded.report.losses;
    let standing = recorded.truth.open.iter().map(|open| open.threads as u64);
    let standing: u64 = standing.sum();
    let causes = ["too_deep", "no_row", "unsupported", "no_progress"];
    let counted = causes.map(|cause| losses.cause(cause));
    if counted == [1; 4] && standing == 4 && losses.truncated == standing {
        Complaints::new()
    } else {
        vec![format!("{standing} stacks have no end: {losses:?}")]
    }
}

/// The kernel's own count of waits is the report's, but for what is counted as lost.
fn storm(recorded: &Recorded) -> Complaints {
    let losses = &recorded.report.losses;
    let mut complaints = Vec::new();
    for site in recorded.truth.blocked() {
        let found: u64 = recorded
            .report
            .sites
            .iter()
            .filter(|found| is_in(&found.function, &site.function))
            .map(|found| found.waits)
            .sum();
        let seconds = recorded.report.duration_ns as f64 / 1e9;
        println!(
            "{} waits in {seconds:.1} s, {} a second; lost {:?}",
            site.waits,
            (site.waits as f64 / seconds) as u64,
            losses
                .by_cause
                .iter()
                .filter(|(_, count)| **count > 0)
                .collect::<Vec<_>>()
        );
        let lost = losses.cause("aggregate_full") + losses.cause("stack_table_full");
        if found > site.waits || found + lost < site.waits {
            complaints.push(format!(
                "{found} waits at {}, the kernel counted {}, {lost} are said to be lost",
                site.function, site.waits
            ));
        }
    }
    if losses.waits != losses.summed + losses.cause("aggregate_full") {
        complaints.push(format!("{} waits, {} in sums", losses.waits, losses.summed));
    }
    let threads: u64 = recorded
        .report
        .threads
        .iter()
        .map(|thread| thread.waits)
        .sum();
    if threads != losses.waits {
        complaints.push(format!(
            "{threads} waits of threads, {} in all",
            losses.waits
        ));
    }
    complaints
}

fn shadow(recorded: &Recorded) -> Complaints {
    let mut complaints = no_alarm(recorded);
    let shadow = recorded.report.losses.shadow.as_ref();
    let compared = shadow.and_then(|shadow| shadow.get("compared"));
    if compared.is_none_or(|compared| *compared < ENOUGH) {
        complaints.push(format!("only {compared:?} stacks were compared"));
    }
    complaints
}

/// Where the other unwinder gives up at the innermost frames, as it does in a libc without unwinding
/// information, there is nothing to compare, and nothing to complain of.
fn shadow_gives_up(recorded: &Recorded) -> Complaints {
    let mut complaints = no_alarm(recorded);
    let shadow = recorded.report.losses.shadow.as_ref();
    let given_up = shadow.and_then(|shadow| shadow.get("given_up"));
    if given_up.is_none_or(|given_up| *given_up < ENOUGH) {
        complaints.push(format!("only {given_up:?} stacks were given up"));
    }
    complaints
}

/// No stack differs, and each is accounted for.
fn no_alarm(recorded: &Recorded) -> Complaints {
    let Some(shadow) = &recorded.report.losses.shadow else {
        return vec!["the report tells of no shadow check".into()];
    };
    let count = |name: &str| shadow.get(name).copied().unwrap_or(0);
    println!("{shadow:?}");
    let mut complaints = Vec::new();
    if count("differing") > 0 {
        complaints.push(format!("{} stacks differ", count("differing")));
    }
    let all = count("compared") + count("given_up") + count("lost");
    // Stacks of waits from before the recording, one a thread at most, are walked here and not copied.
    let here = recorded.report.losses.walked.checked_sub(count("copied"));
    let threads = recorded.report.threads.len() as u64;
    if all != count("copied") || here.is_none_or(|here| here > threads) {
        complaints.push(format!("{all} accounted for: {shadow:?}"));
    }
    complaints
}

/// By function: the object's kind, and the name of who holds it.
const HELD: &[(&str, &str, Option<&str>)] = &[
    ("block_by_held_pthread", "futex", Some("lock-holder")),
    ("block_by_held_mutex", "futex", Some("lock-holder")),
    ("block_by_held_pipe", "pipe", Some("sleep")),
    ("block_by_held_unix", "socket", Some("sleep")),
    ("block_by_held_tcp", "socket", Some("sleep")),
    // Whoever listens has it: the program itself.
    ("block_by_unaccepted", "socket", Some("blockers")),
    ("block_by_held_child", "process", Some("sleep")),
    ("block_by_held_join", "thread", Some("endless")),
    ("block_by_held_file", "path", Some("blockers")),
];

/// Everything that can be known of who holds what is told, and nothing else.
fn holders(recorded: &Recorded) -> Complaints {
    let report = &recorded.report;
    let mut complaints = Vec::new();
    if report.verdict.kind != "wedged" {
        complaints.push(format!("the verdict is {}", report.verdict.kind));
    }
    for (function, kind, holder) in HELD {
        let waits = report.open_waits.iter();
        let waits: Vec<_> = waits
            .filter(|wait| is_in(&wait.function, function))
            .collect();
        let expected = recorded.truth.open.iter();
        let expected = expected.filter(|open| open.function == *function);
        let expected: usize = expected.map(|open| open.threads).sum();
        if waits.len() != expected || expected == 0 {
            complaints.push(format!("{} open waits in {function}", waits.len()));
        }
        for wait in waits {
            let Some(object) = &wait.object else {
                complaints.push(format!("{function}: no object"));
                continue;
            };
            let found = wait.holder.as_ref();
            let name = found.and_then(|found| {
                let process = found.processes.first().map(|process| process.name.as_str());
                process.or((found.kind == "thread").then_some(found.name.as_str()))
            });
            if object.kind != *kind || name != *holder || wait.waiters as usize != expected {
                complaints.push(format!(
                    "{function}: {object:?}, held by {found:?}, {} wait, open for {}",
                    wait.waiters,
                    ms(wait.since_ns)
                ));
            }
            let unaccepted = object.name.ends_with(", not accepted yet");
            if *kind == "socket" && unaccepted != (*function == "block_by_unaccepted") {
                complaints.push(format!("{function}: the socket is {:?}", object.name));
            }
            if *kind == "socket" && object.name.is_empty() {
                complaints.push(format!("{function}: the socket has no name"));
            }
        }
    }
    complaints
}
