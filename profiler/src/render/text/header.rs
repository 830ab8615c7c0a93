//! What was recorded, and the verdict.

use super::blame::left;
use super::may_hide::may_hide;
use super::open::{at_least, stands_still};
use super::others::has_tokio;
use super::page::Page;
use super::style::{BAD, DIM, GOOD, HEADING, PLAIN, WARN};
use super::verdict_words::{NEVER_MOVED, Words, cpu_bound, never_moved, no_runtime, nothing_seen};
use super::workers::never_watched;
use crate::counted::counted;
use crate::recording::Process;
use crate::render::{display_name, display_path, duration, percent, process_name, sanitize};
use crate::report::{LongPollSite, Report, Site, Verdict};
use crate::runtime::State;
use crate::units::Nanos;
use anstyle::Style;
use std::io;

/// Column where the verdict's text begins.
const INDENT: usize = 13;
/// Workers that are idle for this share of their time had hardly anything to do.
const NO_LOAD: f64 = 0.999;
/// Below this share of all CPUs a process does not suffer from their number.
const LOW_CPU: f64 = 0.5;

/// The program and the length of the recording.
pub(super) fn target(page: &mut Page<'_>) -> io::Result<()> {
    let report = page.report;
    let target = &report.target;
    let several = report.targets.len() > 1;
    let name = if several {
        counted(report.targets.len() as u64, "process", "processes")
    } else {
        sanitize(target.exe_name()).into_owned()
    };
    let mut facts = vec![
        duration(report.duration_ns),
        report.started_at.replace('T', " ").replace(".000Z", "Z"),
    ];
    if !several {
        facts.insert(0, format!("pid {}", target.pid));
    }
    if !several {
        facts.extend(tokio(target));
    }
    facts.push(format!("Linux {}", sanitize(&report.host.kernel)));
    facts.push(counted(u64::from(report.host.cpus), "CPU", "CPUs"));
    let mut line = page.line();
    line.push(HEADING, &page.fit_right(&name, page.width / 2));
    let room = page.width.saturating_sub(line.width());
    let mut rest = String::new();
    // What matters least stands last and goes first.
    for fact in facts {
        let more = format!("{rest} · {fact}");
        if page.options.cut && super::line::width(&more) > room {
            break;
        }
        rest = more;
    }
    line.push(DIM, &rest);
    page.put(&line)?;
    if let Some(part) = report.part {
        let text = format!(
            "{} to {} of a recording of {}",
            duration(part.from_ns),
            duration(part.to_ns),
            duration(part.of_ns)
        );
        page.labelled((DIM, "from"), 6, &text)?;
    }
    if let Some(filter) = &report.filter {
        let mut text = format!(
            "{}. The verdict, the times of workers and the losses are of everything.",
            sanitize(&filter.to_string())
        );
        if report.lists_nothing() {
            text.push_str(" Nothing in the recording fits.");
        }
        page.labelled((DIM, "only"), 6, &text)?;
    }
    if several {
        processes(page)?;
    }
    page.blank()
}

/// Which tokio a process has, where it shows any sign of one.
pub(in crate::render) fn tokio(process: &Process) -> Option<String> {
    match &process.tokio_version {
        Some(version) => Some(format!("tokio {}", sanitize(version))),
        None if process.tokio.present => Some("tokio, version not known".to_owned()),
        None => None,
    }
}

/// Processes listed at most.
const LISTED: usize = 12;
/// Names of other programs that are told at most.
const NAMED: usize = 5;

/// A line for each of several processes with tokio, and one for all others.
fn processes(page: &mut Page<'_>) -> io::Result<()> {
    let targets = &page.report.targets;
    let (ours, others): (Vec<&Process>, Vec<&Process>) = targets
        .iter()
        .partition(|process| has_tokio(page.report, process));
    for target in ours.iter().take(LISTED) {
        let mut text = sanitize(target.exe_name()).into_owned();
        if let Some(tokio) = tokio(target) {
            text.push_str(&format!(" · {tokio}"));
        }
        if let Some(parent) = target.parent {
            text.push_str(&format!(" · forked by {parent}"));
        }
        if let Some(ended) = &target.ended {
            text.push_str(&format!(" · {}", sanitize(ended)));
        }
        let mut line = page.line();
        line.push_right(DIM, &target.pid.to_string(), 9)
            .push(PLAIN, "  ");
        let room = page.width.saturating_sub(line.width());
        line.push(PLAIN, &page.fit_right(&text, room));
        page.put(&line)?;
    }
    if ours.len() > LISTED {
        let more = ours.len() - LISTED;
        page.labelled((PLAIN, ""), 11, &format!("… and {more} more"))?;
    }
    if others.is_empty() {
        return Ok(());
    }
    let mut names: Vec<String> = Vec::new();
    for process in &others {
        let name = sanitize(process.exe_name()).into_owned();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let more = names.len().saturating_sub(NAMED);
    names.truncate(NAMED);
    if more > 0 {
        names.push("…".to_owned());
    }
    let number = counted(others.len() as u64, "process", "processes");
    let mut text = format!("{number} without any sign of tokio: {}", names.join(", "));
    if others.iter().any(|process| page.leaves_out(process.pid)) {
        text.push_str(" (left out below; all with --all)");
    }
    page.labelled((PLAIN, ""), 11, &text)
}

/// The main finding.
pub(super) fn verdict(page: &mut Page<'_>) -> io::Result<()> {
    let report = page.report;
    let words = words(report);
    page.labelled((words.style, words.word), INDENT, &words.text)?;
    if let Some(site) = words.site.and_then(|index| report.sites.get(index)) {
        page.labelled((PLAIN, ""), INDENT, &worst(report, site))?;
    }
    Ok(())
}

/// How grave a verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::render) enum Tone {
    Bad,
    Doubtful,
    Good,
}

/// The verdict as other renderers say it.
pub(in crate::render) struct Spoken {
    pub(in crate::render) tone: Tone,
    pub(in crate::render) word: &'static str,
    pub(in crate::render) text: String,
    /// What to mend first.
    pub(in crate::render) first: Option<String>,
}

/// The verdict, for other renderers.
pub(in crate::render) fn spoken(report: &Report) -> Spoken {
    let words = words(report);
    let tone = match words.style {
        style if style == BAD => Tone::Bad,
        style if style == GOOD => Tone::Good,
        _ => Tone::Doubtful,
    };
    let site = words.site.and_then(|index| report.sites.get(index));
    Spoken {
        tone,
        word: words.word,
        first: site.map(|site| worst(report, site)),
        text: words.text,
    }
}

/// The verdict in a word, and what is said of it.
pub(in crate::render) fn headline(report: &Report) -> (Style, &'static str, String) {
    let Words {
        style, word, text, ..
    } = words(report);
    (style, word, text)
}

fn words(report: &Report) -> Words {
    let mut words = words_of_verdict(report);
    if never_moved(report) {
        words.text.push_str(NEVER_MOVED);
    }
    if !matches!(report.verdict, Verdict::PoolFull { .. }) {
        let full = report.pools.iter().filter(|pool| pool.was_full);
        for pool in full {
            let of = process_name(report, pool.pid);
            let of = of.map_or_else(String::new, |name| format!(" of {}", sanitize(&name)));
            words.text.push_str(&super::pool::full_too(&of, pool));
        }
    }
    words
}

fn words_of_verdict(report: &Report) -> Words {
    let of = |runtime: &str| of(report, runtime);
    match &report.verdict {
        Verdict::Wedged {
            runtime,
            workers,
            total_ns,
            site,
        } => wedged(report, &of(runtime), *workers, *total_ns).with_site(*site),
        Verdict::Starved {
            runtime,
            workers,
            total_ns,
            longest_ns,
            share,
            cpu_share,
            site,
        } => {
            let times = [*total_ns, *longest_ns];
            let cpu = unwatched(report, runtime) + &cpu_use(report, *cpu_share);
            starved(&of(runtime), *workers, times, *share, &cpu).with_site(*site)
        }
        Verdict::WorkersBlocked {
            runtime,
            workers,
            total_ns,
            longest_ns,
            share,
            cpu_share,
            site,
        } => {
            let cpu = unwatched(report, runtime) + &cpu_use(report, *cpu_share);
            let cpu = cpu + may_hide(report, runtime);
            let longest = at_least(report, *longest_ns);
            let times = (duration(*total_ns), longest);
            blocked(&of(runtime), *workers, times, *share, &cpu).with_site(*site)
        }
        Verdict::CpuStarved {
            runtime,
            share,
            throttled,
        } => cpu_starved(report, &of(runtime), *share, *throttled),
        Verdict::LongPolls {
            runtime,
            polls,
            total_ns,
            longest_ns,
            share,
            site,
        } => {
            let worst = site.and_then(|index| report.long_polls.get(index));
            let times = [*total_ns, *longest_ns];
            long_polls(&of(runtime), *polls, times, *share, worst)
        }
        Verdict::Unclear {
            runtime,
            pid,
            share,
            reason,
        } => {
            let process = report.targets.iter().find(|process| process.pid == *pid);
            match runtime {
                Some(runtime) => {
                    let who = format!("the workers{}", of(runtime));
                    super::unclear::unclear(&who, *share, *reason, process)
                }
                None => {
                    let of = process_name(report, *pid);
                    let of = of.map_or_else(String::new, |name| format!(" of {}", sanitize(&name)));
                    super::unclear::unclear(&format!("the threads{of}"), *share, *reason, process)
                }
            }
        }
        Verdict::PoolFull {
            pid,
            threads,
            total_ns,
            share,
            queued,
            site,
        } => {
            let of = process_name(report, *pid);
            let of = of.map_or_else(String::new, |name| format!(" of {}", sanitize(&name)));
            super::pool::full(&of, *threads, *total_ns, *share, *queued).with_site(*site)
        }
        Verdict::Stopped { runtime, share } => stopped(report, runtime, *share),
        Verdict::CpuBound { runtime, share } => cpu_bound(&of(runtime), *share),
        Verdict::Healthy {
            runtime,
            share,
            longest_ns,
            idle_share,
        } => healthy(report, (&of(runtime), *share), *longest_ns, *idle_share),
        Verdict::NoRuntime => no_runtime(report.threads.len() as u64),
        Verdict::NothingSeen => nothing_seen(),
    }
}

/// ` of rt0 in claims_api (4242)`, as far as it has to be said.
fn of(report: &Report, id: &str) -> String {
    let runtime = report.runtimes.iter().find(|runtime| runtime.id == id);
    let process = runtime.and_then(|runtime| process_name(report, runtime.pid));
    match process {
        Some(process) => format!(" of {id} in {}", sanitize(&process)),
        None if report.runtimes.len() > 1 || report.filter.is_some() => format!(" of {id}"),
        None => String::new(),
    }
}

/// From which time on it is told that workers which were stopped were blocked, too.
const REST_BLOCKED: Nanos = Nanos(10_000_000);

/// From which share of the time on it is told that nobody watched.
const UNWATCHED: f64 = 0.1;

/// That tasks of workers which were not blocked waited as well: for a socket or a timer that no worker
/// watched.
fn unwatched(report: &Report, id: &str) -> String {
    let mut runtimes = report.runtimes.iter();
    let runtime = runtimes.find(|runtime| runtime.id == id && runtime.workers > 1);
    if runtime.is_some_and(|runtime| never_watched(report, runtime)) {
        return "No worker was seen to watch sockets and timers, so tasks that wait for one wait on, \
                whichever their worker, if this runtime has any. "
            .to_owned();
    }
    let time = runtime.and_then(|runtime| {
        let time = runtime.unattended_ns?;
        (time > runtime.starved_ns).then_some(time)
    });
    let share = time.map_or(0.0, |time| time.share_of(report.duration_ns));
    match time {
        Some(time) if share >= UNWATCHED => format!(
            "For {} ({} of the time) no worker watched sockets and timers, so tasks that waited for \
             one waited on, whichever their worker. ",
            duration(time),
            percent(share)
        ),
        _ => String::new(),
    }
}

fn wedged(report: &Report, of: &str, workers: u32, total: Nanos) -> Words {
    let who = match workers {
        1 => format!("The only worker{of} was"),
        2 => format!("Both workers{of} were"),
        _ => format!("All {workers} workers{of} were"),
    };
    // With the process its waits are over.
    let has_ended = report.open_waits.is_empty();
    let (until, outlook) = match (has_ended, workers) {
        (true, _) => (
            "process",
            "could run. Who held what cannot be found out any more: `holdup dump` tells it of a \
             process that still hangs.",
        ),
        (false, 1) => (
            "recording",
            "could run, and none will before that wait ends. Who holds what is under \"Still \
             waiting\".",
        ),
        (false, _) => (
            "recording",
            "could run, and none will before one of these waits ends. Who holds what is under \
             \"Still waiting\".",
        ),
    };
    let circle = if report.deadlocks.is_empty() {
        ""
    } else {
        " Threads wait for each other: see \"Deadlock\"."
    };
    let text = format!(
        "{who} still waiting when the {until} ended, {} for {} and longer: no task {outlook}{circle}",
        if workers == 1 {
            "in one wait"
        } else {
            "each in one wait,"
        },
        duration(total)
    );
    Words::new(BAD, "WEDGED", text)
}

fn starved(of: &str, workers: u32, [total, longest]: [Nanos; 2], share: f64, cpu: &str) -> Words {
    let who = match workers {
        2 => "Both".to_owned(),
        _ => format!("All {workers}"),
    };
    let text = format!(
        "{who} workers{of} were blocked at once for {} ({} of the time), {} at a stretch. No task \
         could run meanwhile. {cpu}",
        duration(total),
        percent(share),
        duration(longest)
    );
    Words::new(BAD, "STARVED", text)
}

fn blocked(
    of: &str,
    workers: u32,
    (total, longest): (String, String),
    share: f64,
    cpu: &str,
) -> Words {
    let share = percent(share);
    let text = if workers == 1 {
        format!(
            "The only worker{of} was blocked inside task polls for {total} ({share} of its time); the \
             longest poll took {longest}. No other task could run meanwhile. {cpu}"
        )
    } else {
        format!(
            "The {workers} workers{of} were blocked inside task polls for {share} of their time \
             ({total} together); the longest poll took {longest}. {cpu}"
        )
    };
    Words::new(BAD, "BLOCKED", text)
}

fn cpu_starved(report: &Report, of: &str, share: f64, throttled: Option<f64>) -> Words {
    let why = match (throttled, &report.throttling) {
        (Some(throttled), Some(throttling)) => format!(
            "The CPU quota of control group {} was used up in {} of its periods: raise it (`cpu.max`, \
             a container's CPU limit), or run fewer threads.",
            sanitize(&throttling.group),
            percent(throttled)
        ),
        _ => "Look at the CPU quota of the container and at what else runs on this machine."
            .to_owned(),
    };
    let text = format!(
        "The workers{of} wanted a CPU and had none for {} of their time. {why}",
        percent(share)
    );
    Words::new(WARN, "NO CPU", text)
}

fn long_polls(
    of: &str,
    polls: u64,
    [total, longest]: [Nanos; 2],
    share: f64,
    worst: Option<&LongPollSite>,
) -> Words {
    let worst = worst.map_or_else(String::new, |site| {
        let place = file_and_line(site.file.as_deref(), site.line);
        let place = place.map_or_else(String::new, |at| format!(" ({at})"));
        let task = site.task.as_deref().filter(|task| **task != *site.function);
        let task = task.map_or_else(String::new, |task| {
            format!(" in task {}", display_name(task))
        });
        format!(" Worst: {}{place}{task}.", display_name(&site.function))
    });
    let text = format!(
        "Tasks{of} computed in {} without yielding, for at least {} together ({} of the workers' time), {} \
         in one. The other tasks of the worker waited meanwhile.{worst}",
        counted(polls, "long poll", "long polls"),
        duration(total),
        percent(share),
        duration(longest)
    );
    Words::new(BAD, "CPU HOG", text)
}

fn stopped(report: &Report, runtime: &str, share: f64) -> Words {
    let found = report.runtimes.iter().find(|found| found.id == runtime);
    let blocked = found.and_then(|found| found.states.get(&State::Blocked));
    let blocked = blocked.copied().unwrap_or_default();
    let rest = match found {
        Some(found) if found.starved_ns > Nanos::ZERO => format!(
            " In the rest all of them were blocked at once for {}, {} at a stretch: see the sites.",
            duration(found.starved_ns),
            duration(found.starved_max_ns)
        ),
        _ if blocked >= REST_BLOCKED => format!(
            " In the rest they were blocked for {}: see the sites.",
            duration(blocked)
        ),
        _ => String::new(),
    };
    let text = format!(
        "Something outside the program held the workers{} for {} of their time: see the note below.\
         {rest}",
        of(report, runtime),
        percent(share)
    );
    Words::new(WARN, "STOPPED", text)
}

fn healthy(report: &Report, (of, share): (&str, f64), longest: Nanos, idle: f64) -> Words {
    let mut text = if share > 0.0 {
        format!(
            "The workers{of} were blocked for {} of their time, {} at the longest.",
            percent(share),
            duration(longest)
        )
    } else {
        "No worker was ever blocked.".to_owned()
    };
    if idle >= NO_LOAD {
        let idle = percent(idle);
        text.push_str(&format!(
            " They were idle for {idle} of their time: was there load? Record while it is slow. If it \
             hangs all the same, "
        ));
        text.push_str(&match stands_still(report) {
            Some(thread) => format!("look first at {thread}."),
            None => "its tasks wait for each other or for a peer: no thread shows that.".to_owned(),
        });
    }
    Words::new(GOOD, "HEALTHY", text)
}

/// How much the process computed: where workers are blocked and CPUs are free, more CPUs are of
/// no use.
fn cpu_use(report: &Report, share: f64) -> String {
    let cpus = counted(u64::from(report.host.cpus), "CPU", "CPUs");
    let text = format!("The process used {} of {cpus}", percent(share));
    if share < LOW_CPU {
        format!("{text}: it waited, it did not compute.")
    } else {
        format!("{text}.")
    }
}

/// The site to mend first, and what that would bring.
fn worst(report: &Report, site: &Site) -> String {
    let place = format!(
        "{}{}",
        display_name(&site.function),
        location(site).map_or_else(String::new, |at| format!(" ({at})")),
    );
    let waits = format!(
        "{} in {} ({})",
        duration(site.total_ns),
        display_name(&site.wait),
        site.cause.name()
    );
    // Where nothing moves any more, each of the waits is as much to blame as the others.
    let is_wedged = matches!(report.verdict, Verdict::Wedged { .. }) || never_moved(report);
    // The runtime that the verdict is about, if it is among those that the site holds up.
    let mut harms = site.harm.iter();
    let of_verdict = harms.find(|harm| report.verdict.runtime() == Some(&harm.runtime));
    let harm = of_verdict.or_else(|| site.harm.first());
    let harm = harm.filter(|_| !is_wedged).filter(|harm| {
        let runtime = report.runtimes.iter().find(|of| of.id == harm.runtime);
        // Where hardly any time was starved, what would be left of it is no measure.
        runtime.is_some_and(|runtime| harm.starved_ns.share_of(runtime.starved_ns) >= 0.05)
    });
    let is_told = match (&report.verdict, harm) {
        (Verdict::Starved { runtime, .. }, Some(harm)) => *runtime == harm.runtime,
        _ => false,
    };
    match harm {
        Some(harm) => format!(
            "Fix first: {place}, {waits}. Without it {} (an estimate for the same load).",
            left(harm, is_told)
        ),
        None => format!("Worst: {place}, {waits}."),
    }
}

/// File and line of a site, as far as known.
pub(in crate::render) fn location(site: &Site) -> Option<String> {
    file_and_line(site.file.as_deref(), site.line)
}

/// `src/api.rs:54`, as far as known.
pub(in crate::render) fn file_and_line(file: Option<&str>, line: Option<u32>) -> Option<String> {
    let file = display_path(file?);
    Some(match line {
        Some(line) => format!("{file}:{line}"),
        None => file,
    })
}
