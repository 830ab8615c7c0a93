//! The checks of a recording against the fixture's ground truth. Each lists all that is wrong,
//! not only the first.

use super::record::Recorded;
use super::report::{Frame, Report, Site, is_in};
use super::truth::{Late, TrueSite, Truth, slowdown};

/// Complaints; none is a pass.
pub(crate) type Complaints = Vec<String>;

/// Blocked time that a function which is no known blocker may have. Two workers that meet in an
/// allocator's lock, or in one of the runtime's, are truly blocked, for microseconds; a park
/// taken for a wait would show with many milliseconds.
pub(crate) fn stray_ns() -> u64 {
    200_000 * slowdown()
}

/// Sums over the sites of one function in one state.
#[derive(Default)]
struct Sum {
    waits: u64,
    total_ns: u64,
    runqueue_ns: u64,
    max_ns: u64,
}

fn sum_of(report: &Report, function: &str, state: &str) -> Sum {
    let mut sum = Sum::default();
    for site in sites_in(report, function).filter(|site| site.state == state) {
        sum.waits += site.waits;
        sum.total_ns += site.total_ns;
        sum.runqueue_ns += site.runqueue_ns;
        sum.max_ns = sum.max_ns.max(site.max_ns);
    }
    sum
}

fn sites_in<'a>(report: &'a Report, function: &'a str) -> impl Iterator<Item = &'a Site> {
    report
        .sites
        .iter()
        .filter(move |site| is_in(&site.function, function))
}

/// Every wait of every blocker is there, at its function, exactly as often as the kernel counted
/// switches there.
pub(crate) fn recall(report: &Report, truth: &Truth) -> Complaints {
    let mut complaints = Vec::new();
    for site in truth.blocked() {
        let found = sum_of(report, &site.function, "blocked");
        if found.waits != site.waits {
            complaints.push(format!(
                "{}: {} waits blocked, the kernel counted {}{}",
                site.function,
                found.waits,
                site.waits,
                whereabouts(report, &site.function),
            ));
        }
    }
    complaints
}

/// Where a function's waits went instead: sites at it in other states, and sites that have it
/// further out on the stack.
fn whereabouts(report: &Report, function: &str) -> String {
    let elsewhere: Vec<String> = report
        .sites
        .iter()
        .filter(|site| {
            let at_it = is_in(&site.function, function);
            let above_it = site
                .stack
                .iter()
                .any(|frame| is_in(&frame.function, function));
            (at_it && site.state != "blocked") || (!at_it && above_it)
        })
        .map(|site| format!("\n      instead: {}", site.describe()))
        .collect();
    elsewhere.concat()
}

/// Every blocker's time is what the program measured.
pub(crate) fn times(recorded: &Recorded) -> Complaints {
    let mut complaints = Vec::new();
    let mut late = Late::at_most(recorded.stolen_ns);
    let sites = recorded.truth.blocked();
    for site in sites.filter(|site| site.waits > 0) {
        let found = sum_of(&recorded.report, &site.function, "blocked");
        complaints.extend(time_of(site, &found, &mut late));
    }
    complaints
}

fn time_of(site: &TrueSite, found: &Sum, late: &mut Late) -> Complaints {
    let name = &site.function;
    let tolerance = site.tolerance_ns();
    let mut complaints = Vec::new();
    if !site.may_be_blocked_for(found.total_ns, late) {
        complaints.push(format!(
            "{name}: {} blocked, measured {} ± {}",
            ms(found.total_ns),
            ms(site.blocked_ns()),
            ms(tolerance)
        ));
    }
    // A preemption on the way into the wait is run delay to the kernel, but no part of a wait:
    // so the sum has bounds instead of a value.
    let sum = found.total_ns + found.runqueue_ns;
    let (low, high) = (
        site.blocked_ns().saturating_sub(tolerance),
        site.most_off_cpu_ns() + tolerance,
    );
    if sum < low || sum > high {
        complaints.push(format!(
            "{name}: {} blocked and on the run queue, measured {} to {}",
            ms(sum),
            ms(low),
            ms(high)
        ));
    }
    // One call may wait more than once, but no wait is longer than its call.
    if found.max_ns > site.max_ns + site.max_ns / 50 {
        complaints.push(format!(
            "{name}: longest wait {}, longest call {}",
            ms(found.max_ns),
            ms(site.max_ns)
        ));
    }
    if found.max_ns * found.waits < found.total_ns {
        complaints.push(format!("{name}: the longest wait is shorter than the mean"));
    }
    complaints
}

/// Nobody innocent is blamed: neither the fixture's allowed waits nor anything else.
pub(crate) fn false_alarms(report: &Report, truth: &Truth) -> Complaints {
    let blamed = report.sites.iter().filter(|site| site.state == "blocked");
    blamed
        .filter(|site| {
            let guilty = truth
                .blocked()
                .any(|known| is_in(&site.function, &known.function))
                || truth
                    .open
                    .iter()
                    .any(|known| is_in(&site.function, &known.function));
            let innocent = truth.allowed().any(|known| {
                let on_stack = |name: &str| is_in(name, &known.function);
                on_stack(&site.function) || site.stack.iter().any(|frame| on_stack(&frame.function))
            });
            if innocent {
                !is_before_root(site)
            } else {
                !guilty && !is_excused(site) && site.total_ns > stray_ns()
            }
        })
        .map(|site| format!("blamed: {}", site.describe()))
        .collect()
}

/// Whether somebody was truly blocked there, though the fixture says nothing of it: no park has
/// such a stack.
fn is_excused(site: &Site) -> bool {
    // Whoever touches new memory may meet someone who changes the memory map, and wait for as long
    // as that one is off its CPU.
    let mut frames = site.stack.iter();
    let on_memory_map = frames.any(|frame| frame.function.starts_with("rwsem_down_"));
    // The same is true of whoever meets another in a lock inside the runtime or the allocator.
    on_memory_map || site.stack.windows(2).any(is_inner_lock)
}

/// Whether somebody met another in such a lock in a `block_on` outside the workers: it makes a waker
/// before it polls, and what waits there is counted to its root future. Nothing else excuses a
/// wait under an allowed function: what pool threads and `block_in_place` wait in is theirs.
fn is_before_root(site: &Site) -> bool {
    site.evidence.iter().any(|rule| rule == "block-on-root")
        && site.stack.windows(2).any(is_inner_lock)
}

/// Whether a function that takes a lock was called by the runtime, for a lock of its own, or by
/// the allocator: glibc's has several, musl's one. Nobody parks in one.
fn is_inner_lock(pair: &[Frame]) -> bool {
    let [lock, caller] = pair else { return false };
    let (lock, caller) = (lock.function.as_str(), caller.function.as_str());
    if ["__lock", "__lll_lock_wait_private"].contains(&lock) {
        ["alloc", "free"].iter().any(|name| caller.contains(name))
    } else {
        lock.ends_with("::lock_contended") && caller.trim_start_matches('<').starts_with("tokio::")
    }
}

/// Allowed waits are in the state that they belong in, with their number and time where that
/// state lists sites (`pool`, `handed-off`).
pub(crate) fn allowed(recorded: &Recorded) -> Complaints {
    let (report, truth) = (&recorded.report, &recorded.truth);
    let mut complaints = Vec::new();
    let mut late = Late::at_most(recorded.stolen_ns);
    for site in truth.allowed() {
        for found in sites_in(report, &site.function) {
            if !site.states.contains(&found.state) && !is_before_root(found) {
                complaints.push(format!("expected {:?}: {}", site.states, found.describe()));
            }
        }
        let listed = match site.states.as_slice() {
            [state] if state == "pool" || state == "handed-off" => state,
            _ => continue,
        };
        let found = sum_of(report, &site.function, listed);
        if found.waits != site.waits {
            complaints.push(format!(
                "{}: {} waits {listed}, the kernel counted {}",
                site.function, found.waits, site.waits
            ));
        } else {
            complaints.extend(time_of(site, &found, &mut late));
        }
    }
    complaints
}

/// The states of each thread sum to its life, the lives are as long as the recording, and the
/// time on a CPU is what the scheduler says.
pub(crate) fn accounting(recorded: &Recorded) -> Complaints {
    let report = &recorded.report;
    let mut complaints = Vec::new();
    for thread in &report.threads {
        let sum: u64 = thread.states.values().sum();
        if sum != thread.lived_ns {
            complaints.push(format!(
                "thread {} ({}): states sum to {sum} ns, it lived {} ns",
                thread.tid, thread.name, thread.lived_ns
            ));
        }
        // Under 0, threads are summed up that ended and are beyond those kept apart.
        if thread.tid != 0 && thread.lived_ns > report.duration_ns {
            complaints.push(format!(
                "thread {} lived longer than the recording",
                thread.tid
            ));
        }
    }
    for (tid, cpu_ns) in &recorded.throughout {
        let Some(thread) = report.threads.iter().find(|thread| thread.tid == *tid) else {
            complaints.push(format!(
                "thread {tid} lived throughout, but is not in the report"
            ));
            continue;
        };
        // 0.1 % is the promise; 1 ms for attaching to the threads one after another.
        let tolerance = report.duration_ns / 1_000 + 1_000_000 * slowdown();
        if thread.lived_ns.abs_diff(report.duration_ns) > tolerance {
            complaints.push(format!(
                "thread {tid} ({}) lived throughout: {} of {}",
                thread.name,
                ms(thread.lived_ns),
                ms(report.duration_ns)
            ));
        }
        // 5 ms for what the thread did between the two looks at it, and for the microseconds
        // that each of some thousand switches takes before the tracepoint: the scheduler charges
        // them to the next thread.
        let running = thread.states.get("running").copied().unwrap_or(0);
        let tolerance = cpu_ns / 50 + 5_000_000;
        // The scheduler takes the time of a wakeup for that of the switch which it causes
        // (`rq_clock_skip_update`): microseconds, but not where the other CPU is emulated.
        let runnable = match slowdown() {
            1 => 0,
            _ => thread.states.get("runnable").copied().unwrap_or(0),
        };
        if running + runnable + tolerance < *cpu_ns
            || running > cpu_ns + tolerance + recorded.stolen_ns
        {
            complaints.push(format!(
                "thread {tid} ({}) ran for {}, by the scheduler {}; of {} it was {:?}",
                thread.name,
                ms(running),
                ms(*cpu_ns),
                ms(thread.lived_ns),
                thread.states
            ));
        }
    }
    if recorded.throughout.is_empty() && report.target.ended.is_none() {
        complaints.push("no thread lived throughout: nothing was compared".into());
    }
    complaints
}

/// At least 99.9 % of the stacks reach their thread's start.
pub(crate) fn stacks(report: &Report) -> Complaints {
    let losses = &report.losses;
    if losses.walked == 0 {
        vec!["no stack was walked".into()]
    } else if losses.truncated * 1_000 > losses.walked {
        vec![format!(
            "{} of {} stacks are truncated",
            losses.truncated, losses.walked
        )]
    } else {
        Vec::new()
    }
}

/// At most one in a hundred of the waits of tokio's threads is in no state.
pub(crate) fn unknown(report: &Report) -> Complaints {
    let (mut unknown, mut waited) = (0, 0);
    for thread in &report.threads {
        for (state, ns) in &thread.states {
            match state.as_str() {
                "running" | "runnable" | "other" => {}
                "unknown" => (unknown, waited) = (unknown + ns, waited + ns),
                _ => waited += ns,
            }
        }
    }
    match unknown * 100 > waited || waited == 0 {
        true => vec![format!("{} of {} unknown", ms(unknown), ms(waited))],
        false => Vec::new(),
    }
}

/// Nothing was lost. What could not be named is not asked for: libc comes without symbols.
pub(crate) fn losses(report: &Report) -> Complaints {
    let losses = &report.losses;
    [
        ("events", losses.lost_events()),
        ("stacks", losses.stacks),
        ("unknown waits", losses.unknown_waits),
        ("waits of the timeline", losses.timeline),
        ("samples", losses.samples),
    ]
    .into_iter()
    .filter(|(_, lost)| *lost > 0)
    .map(|(what, lost)| {
        format!(
            "{lost} {what} lost (unresolved frames: {})",
            losses.unresolved
        )
    })
    .collect()
}

/// With line tables: each blocker is shown at the line of its blocking call.
pub(crate) fn lines(report: &Report, truth: &Truth) -> Complaints {
    let mut complaints = Vec::new();
    for site in truth.blocked().filter(|site| site.waits > 0) {
        let file = site.file.trim_start_matches("../");
        let elsewhere = sites_in(report, &site.function)
            .filter(|found| found.state == "blocked")
            .filter(|found| {
                let same_file = found
                    .file
                    .as_deref()
                    .is_some_and(|path| path.ends_with(file));
                !same_file || found.line != Some(site.line)
            })
            .map(|found| format!("expected {file}:{}: {}", site.line, found.describe()));
        complaints.extend(elsewhere);
        if sites_in(report, &site.function).all(|found| found.state != "blocked") {
            complaints.push(format!("{} is not there", site.function));
        }
    }
    complaints
}

/// With line tables, which know the inlined functions: each blocker names the task's own async
/// function.
pub(crate) fn tasks(report: &Report, truth: &Truth) -> Complaints {
    // What the runtime drops after the last poll has no async function around it.
    let dropped = ["block_by_drop", "block_by_drop_on_abort"];
    truth
        .blocked()
        .filter(|site| !dropped.contains(&site.function.as_str()))
        .flat_map(|site| sites_in(report, &site.function))
        .filter(|found| found.state == "blocked")
        .filter(|found| {
            let task = found.task.as_deref().unwrap_or("");
            let named = task.split("::").any(|segment| segment.starts_with("task_"));
            // Line tables alone do not name an inlined async function, but they do place it.
            let placed = task.contains("{async_") && task.contains(".rs:");
            !named && !placed
        })
        .map(|found| format!("task {:?}: {}", found.task, found.describe()))
        .collect()
}

/// The runtimes of the scenarios are there, and their time adds up.
pub(crate) fn runtimes(report: &Report, truth: &Truth) -> Complaints {
    let mut complaints = Vec::new();
    for kind in ["multi_thread", "current_thread"] {
        if !report.runtimes.iter().any(|runtime| runtime.kind == kind) {
            complaints.push(format!("no runtime of kind {kind}"));
        }
    }
    let multi = report
        .runtimes
        .iter()
        .filter(|runtime| runtime.kind == "multi_thread");
    if multi.clone().count() != 1 {
        complaints.push(format!(
            "{} multi_thread runtimes, there is one",
            multi.clone().count()
        ));
    }
    for runtime in multi {
        // At a block_in_place another thread becomes a worker: so there may be more.
        if runtime.workers < truth.workers {
            complaints.push(format!(
                "{} workers, there are {}",
                runtime.workers, truth.workers
            ));
        }
    }
    for runtime in &report.runtimes {
        let sum: u64 = runtime.blocked_at_once.iter().sum();
        if sum != report.duration_ns {
            complaints.push(format!(
                "{}: blocked_at_once sums to {sum} ns, the recording took {} ns",
                runtime.kind, report.duration_ns
            ));
        }
    }
    complaints
}

/// The folded stacks are lines of frames and a number, and have the blockers in them.
pub(crate) fn folded(folded: &str, truth: &Truth) -> Complaints {
    let mut complaints: Complaints = folded
        .lines()
        .filter(|line| {
            let parts = line.rsplit_once(' ');
            !parts.is_some_and(|(stack, count)| !stack.is_empty() && count.parse::<u64>().is_ok())
        })
        .map(|line| format!("not a folded stack: {line}"))
        .collect();
    for site in truth.blocked().filter(|site| site.waits > 0) {
        let named = |frame: &str| is_in(frame.trim_end_matches("_[k]"), &site.function);
        if !folded.lines().any(|line| {
            let stack = line.rsplit_once(' ').map_or("", |(stack, _)| stack);
            stack.split(';').any(named)
        }) {
            complaints.push(format!("no folded stack has {}", site.function));
        }
    }
    complaints
}

/// Which process it was, and which tokio.
pub(crate) fn target(recorded: &Recorded, tokio_version: &str) -> Complaints {
    let target = &recorded.report.target;
    let mut complaints = Vec::new();
    if recorded.report.schema != 2 {
        complaints.push(format!(
            "schema {}, these checks know 2",
            recorded.report.schema
        ));
    }
    if target.pid != recorded.pid {
        complaints.push(format!("pid {}, it was {}", target.pid, recorded.pid));
    }
    if target.tokio_version.as_deref() != Some(tokio_version) {
        complaints.push(format!(
            "tokio {:?}, it was {tokio_version}",
            target.tokio_version
        ));
    }
    let tokio = &target.tokio;
    let sure = ["confirmed", "corroborated_by_parks"];
    if !tokio.present || !sure.contains(&tokio.context.kind.as_str()) {
        complaints.push(format!("of its context: {tokio:?}"));
    }
    for missing in &tokio.without_context {
        complaints.push(format!(
            "no context in {}: {}",
            missing.module, missing.text
        ));
    }
    complaints
}

pub(crate) fn ms(ns: u64) -> String {
    format!("{:.3} ms", ns as f64 / 1e6)
}
