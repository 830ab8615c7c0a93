//! Where threads waited.

use super::blame;
use super::header::location;
use super::line::width;
use super::page::Page;
use super::queued::awaits_a_task;
use super::style::{BAD, DIM, PLAIN, WARN};
use super::wakers;
use crate::counted::counted;
use crate::recording::ObjectKind;
use crate::render::{count, display_name, duration, percent, process_name, sanitize};
use crate::report::{ObjectGroup, ObjectTotal, QueuedTasks, RuntimeKind, RuntimeReport, Site};
use crate::runtime::tokio::is_callback_rule;
use crate::runtime::{Flavor, Role, State};
use crate::units::Nanos;
use crate::unwind::Truncation;
use std::io;

/// Column of a site's details, and how wide their labels are.
const INDENT: usize = 6;
const LABEL: usize = 10;
/// Lines for each kind of wait that is not a finding.
const APART: usize = 3;
/// Objects named for each site.
const OBJECTS: usize = 3;
/// Runtimes named for each site.
const RUNTIMES: usize = 3;
/// What tokio's own code waited for in all is one line below this.
const WORTH_A_LOOK: Nanos = Nanos(1_000_000);
/// Said of a site in code that the worker calls between polls.
const OUTSIDE_POLLS: &str =
    "called by the worker itself, outside every poll: a waker, or a hook such as on_thread_park";
/// Said of a site whose function is a framework's.
pub(in crate::render) const INLINED: &str =
    "your function was inlined into this one; line tables tell which";
/// Tasks named for each site.
const TASKS: usize = 3;

/// Blocked sites: those of workers first, then those of a `block_on`.
pub(super) fn blocked(page: &mut Page<'_>) -> io::Result<()> {
    let parts = [
        (
            "Blocked inside task polls",
            "worst first; share of the workers' time",
            Role::Worker(Flavor::MultiThread),
        ),
        (
            "Blocked on current_thread runtimes",
            "worst first; share of those threads' time",
            Role::Worker(Flavor::CurrentThread),
        ),
        (
            "Blocked in a block_on",
            "outside the workers: only its own future waits",
            Role::BlockOn,
        ),
        (
            "Blocked elsewhere",
            "the rules could not tell on which runtime",
            Role::None,
        ),
    ];
    for (heading, explanation, role) in parts {
        let report = page.report;
        // A pool thread that runs a `block_on` of its own is rare enough to go with the rest.
        let of_part = |site: &&Site| {
            let own = site.role == role || role == Role::None && site.role == Role::PoolThread;
            site.state == State::Blocked && own
        };
        let sites: Vec<&Site> = report.sites.iter().filter(of_part).collect();
        if sites.is_empty() {
            continue;
        }
        let (whole, runtimes) = worker_time(page, role);
        let explanation = match runtimes {
            0 | 1 => explanation,
            _ => "worst first; share of all runtimes' time",
        };
        page.heading(heading, explanation)?;
        for (index, site) in sites.iter().take(page.options.max_sites).enumerate() {
            block(page, index + 1, site, whole)?;
            if page.options.brief {
                continue;
            }
            if index < page.options.sites_in_full {
                details(page, site)?;
            } else {
                gist(page, site)?;
            }
        }
        and_more(page, &sites, page.options.max_sites)?;
    }
    not_counted(page)
}

/// The waits that may belong to these sites, where there are any.
fn not_counted(page: &mut Page<'_>) -> io::Result<()> {
    let report = page.report;
    let blocked = |site: &Site| site.state == State::Blocked;
    let unknown = report.losses.unknown_waits;
    if unknown == 0 || !report.sites.iter().any(blocked) {
        return Ok(());
    }
    let waits = counted(unknown, "more wait has", "more waits have");
    let text = format!("… and {waits} no known state: any of these may belong here");
    page.labelled((WARN, ""), 2, &text)
}

/// The time of the workers of that kind, and how many runtimes have them.
fn worker_time(page: &Page<'_>, role: Role) -> (Nanos, usize) {
    let is_multi_thread = match role {
        Role::Worker(flavor) => flavor == Flavor::MultiThread,
        Role::PoolThread | Role::BlockOn | Role::None => return (Nanos::ZERO, 0),
    };
    let runtimes = page.report.runtimes.iter();
    let runtimes: Vec<&RuntimeReport> = runtimes
        .filter(|runtime| (runtime.kind == RuntimeKind::MultiThread) == is_multi_thread)
        .collect();
    let times = runtimes.iter();
    let times = times.flat_map(|runtime| runtime.states.values().copied());
    (times.sum(), runtimes.len())
}

fn and_more(page: &mut Page<'_>, sites: &[&Site], shown: usize) -> io::Result<()> {
    let Some(rest) = sites.get(shown..).filter(|rest| !rest.is_empty()) else {
        return Ok(());
    };
    let time: Nanos = rest.iter().map(|site| site.total_ns).sum();
    let text = format!(
        "… and {}, {} together",
        counted(rest.len() as u64, "more site", "more sites"),
        duration(time)
    );
    page.labelled((PLAIN, ""), 2, &text)
}

/// The first line of a site, and where it is.
fn block(page: &mut Page<'_>, number: usize, site: &Site, whole: Nanos) -> io::Result<()> {
    let mut line = page.line();
    line.push_right(DIM, &format!("{number}."), 4)
        .push_right(BAD, &duration(site.total_ns), 10);
    if whole > Nanos::ZERO {
        line.push_right(PLAIN, &percent(site.total_ns.share_of(whole)), 8);
    }
    line.push(PLAIN, "  ");
    let function = display_name(&site.function);
    let at = location(site);
    page.site(line, &function, at)
}

/// What tells a site from its neighbours.
fn gist(page: &mut Page<'_>, site: &Site) -> io::Result<()> {
    let text = format!("{} ({})", display_name(&site.wait), site.cause.name());
    page.detail("in", &text)?;
    match blame::meanwhile(page.report, site) {
        Some(meanwhile) => page.labelled((DIM, "      meanwhile"), INDENT + LABEL, &meanwhile),
        None => Ok(()),
    }
}

pub(super) fn details(page: &mut Page<'_>, site: &Site) -> io::Result<()> {
    if let Some(process) = process_name(page.report, site.pid) {
        page.detail("process", &sanitize(&process))?;
    }
    runtimes(page, site)?;
    page.detail("in", &display_name(&site.wait))?;
    if site.inlined_into {
        page.detail("note", INLINED)?;
    }
    if site.evidence.iter().any(|rule| is_callback_rule(rule)) {
        page.detail("note", OUTSIDE_POLLS)?;
    }
    if !site.call.is_empty() {
        let text = format!("{}: {}", site.cause.name(), sanitize(&site.call));
        page.detail("cause", &text)?;
    }
    if let Some(text) = other_causes(site) {
        page.detail("", &text)?;
    }
    objects(page, site)?;
    let function = display_name(&site.function);
    for task in site.tasks.iter().take(TASKS) {
        let name = display_name(&task.function);
        if site.tasks.len() > 1 {
            let share = percent(task.total_ns.share_of(site.total_ns));
            page.detail("task", &format!("{name} {share}"))?;
        } else if name != function {
            page.detail("task", &name)?;
        }
    }
    if site.tasks.len() > TASKS {
        let more = site.tasks.len() - TASKS;
        page.detail("", &format!("… and {more} more"))?;
    }
    let indent = INDENT + LABEL;
    page.labelled((DIM, "      waits"), indent, &waits(site))?;
    for (index, waker) in wakers::texts(page.report, site).iter().enumerate() {
        let label = if index == 0 { "      woken by" } else { "" };
        page.labelled((DIM, label), indent, waker)?;
    }
    if let Some(meanwhile) = blame::meanwhile(page.report, site) {
        page.labelled((DIM, "      meanwhile"), indent, &meanwhile)?;
    }
    if let Some(mut queued) = site.queued.as_ref().and_then(held_up) {
        let in_slot = site.queued.is_some_and(|queued| queued.polls_with_lifo > 0);
        if in_slot && awaits_a_task(site.cause) {
            queued.push_str(": where that is what the worker waits for, it waits in vain");
        }
        page.labelled((DIM, "      held up"), indent, &queued)?;
    }
    if let Some(harm) = blame::harm(page.report, site) {
        page.labelled((DIM, "      harm"), indent, &harm)?;
    }
    if let Some(advice) = site.advice {
        if page.is_known_advice(advice.text) {
            page.detail("instead", "as above")?;
        } else {
            page.labelled((DIM, "      instead"), indent, advice.text)?;
            page.labelled((DIM, ""), indent, advice.url)?;
        }
    }
    if let Some(truncation) = site.truncated {
        let text = format!("the stack is cut off: {}", why(truncation));
        page.labelled((WARN, "      note"), indent, &text)?;
    }
    if site.pointer_steps > 0 {
        let frames = counted(site.pointer_steps.into(), "frame", "frames");
        let text = format!("{frames} of the stack passed by frame pointers alone");
        page.labelled((DIM, "      note"), indent, &text)?;
    }
    Ok(())
}

/// The tasks that could not run meanwhile; none where there were none.
pub(in crate::render) fn held_up(queued: &QueuedTasks) -> Option<String> {
    if queued.tasks == 0 {
        return None;
    }
    let mut text = format!(
        "{} in the worker's own queue",
        counted(queued.most.into(), "task", "tasks")
    );
    if queued.polls > 1 {
        let average = queued.average();
        text = format!(
            "{average:.1} tasks on average in the worker's own queue, {} at most",
            queued.most
        );
    }
    if queued.polls_with_lifo > 0 {
        text.push_str(&format!(
            "; in {} of {} one in the LIFO slot, from which no other worker takes",
            count(queued.polls_with_lifo),
            counted(queued.polls, "long poll", "long polls")
        ));
    }
    Some(text)
}

/// Of several causes those beside the main one.
pub(in crate::render) fn other_causes(site: &Site) -> Option<String> {
    let others = site.causes.iter().filter(|total| total.cause != site.cause);
    let others: Vec<String> = others
        .map(|total| {
            let share = percent(total.total_ns.share_of(site.total_ns));
            format!("{} {share}", total.cause.name())
        })
        .collect();
    (!others.is_empty()).then(|| format!("also {}", others.join(", ")))
}

/// Of several runtimes, those whose threads waited here.
fn runtimes(page: &mut Page<'_>, site: &Site) -> io::Result<()> {
    let alike = |runtime: &&RuntimeReport| {
        let multi_thread = runtime.kind == RuntimeKind::MultiThread;
        multi_thread == (site.role == Role::Worker(Flavor::MultiThread))
    };
    if page.report.runtimes.iter().filter(alike).count() < 2 {
        return Ok(());
    }
    let parts: Vec<String> = match site.runtimes.as_slice() {
        [only] => vec![only.runtime.clone()],
        shares => shares
            .iter()
            .take(RUNTIMES)
            .map(|share| {
                let part = share.total_ns.share_of(site.total_ns);
                format!("{} {}", share.runtime, percent(part))
            })
            .collect(),
    };
    if parts.is_empty() {
        return Ok(());
    }
    page.detail("runtime", &parts.join(", "))
}

/// What was waited for, where the call does not say it already. Lengths of time are in the waits,
/// and an address tells nobody anything.
fn objects(page: &mut Page<'_>, site: &Site) -> io::Result<()> {
    let (texts, more) = object_texts(site);
    for (index, text) in texts.iter().enumerate() {
        page.detail(if index == 0 { "for" } else { "" }, text)?;
    }
    if more > 0 {
        page.detail("", &format!("… and {} more", count(more)))?;
    }
    Ok(())
}

/// Some of the objects with their shares, and how many there are beyond.
pub(in crate::render) fn object_texts(site: &Site) -> (Vec<String>, u64) {
    let telling = |kind| !matches!(kind, ObjectKind::Futex | ObjectKind::Timer);
    let single = |object: &ObjectTotal| (object.kind, object.name.clone(), object.total_ns);
    let group = |group: &ObjectGroup| {
        let name = match group.objects {
            1 => group.name.clone(),
            objects => {
                let what = match group.kind {
                    ObjectKind::Process => "processes",
                    _ => "connections",
                };
                format!("{}, {} {what},", group.name, count(objects))
            }
        };
        (group.kind, name, group.total_ns)
    };
    let (mut all, beyond): (Vec<_>, u64) = if site.object_groups.is_empty() {
        (site.objects.iter().map(single).collect(), site.more_objects)
    } else {
        let groups = site.object_groups.iter().map(group);
        (groups.collect(), site.more_groups)
    };
    all.retain(|(kind, ..)| telling(*kind));
    if all.len() < 2 && site.object_groups.is_empty() {
        return (Vec::new(), 0);
    }
    let texts = all.iter().take(OBJECTS).map(|(_, name, total)| {
        let share = percent(total.share_of(site.total_ns));
        format!("{} {share}", sanitize(name))
    });
    let more = (all.len().saturating_sub(OBJECTS)) as u64 + beyond;
    (texts.collect(), more)
}

/// `1,074: p50 …`.
pub(in crate::render) fn waits(site: &Site) -> String {
    if site.waits == 1 {
        return format!("one of {}", duration(site.max_ns));
    }
    format!(
        "{}: p50 {}, p99 {}, max {}",
        count(site.waits),
        duration(site.p50_ns),
        duration(site.p99_ns),
        duration(site.max_ns)
    )
}

pub(in crate::render) const fn why(truncation: Truncation) -> &'static str {
    match truncation {
        Truncation::TooDeep => "deeper than the longest stack kept",
        Truncation::Unmapped => "code outside every known mapping (JIT code?)",
        Truncation::NoRow => "code without unwind information",
        Truncation::Unsupported => "an unwind rule that holdup cannot follow",
        Truncation::Unreadable => "stack memory could not be read",
        Truncation::NoProgress => "a broken chain of frames",
        Truncation::NoStack => "there was none",
        Truncation::TooCostly => "a walk that would take too much of a CPU",
    }
}

/// Waits that block no worker, and those in tokio's own code or of unknown state: a few lines.
pub(super) fn apart(page: &mut Page<'_>) -> io::Result<()> {
    let parts = [
        (
            State::Runtime,
            "Held up in tokio's own code",
            "hooks, locks, wakers: neither parked nor in a poll",
        ),
        (
            State::Unknown,
            "State unknown",
            "the stack did not tell what the thread was doing",
        ),
        (
            State::HandedOff,
            "Allowed: block_in_place",
            "the worker's core went to another thread",
        ),
        (
            State::Pool,
            "Allowed: spawn_blocking",
            "on threads of the blocking pool",
        ),
    ];
    for (state, heading, explanation) in parts {
        let report = page.report;
        let sites = report.sites.iter().filter(|site| site.state == state);
        let sites: Vec<&Site> = sites.filter(|site| !page.leaves_out(site.pid)).collect();
        // Pool threads that only ever waited for work are no news.
        if sites.is_empty() {
            continue;
        }
        let time: Nanos = sites.iter().map(|site| site.total_ns).sum();
        if state == State::Runtime && time < WORTH_A_LOOK {
            let waits = counted(sites.iter().map(|site| site.waits).sum(), "wait", "waits");
            page.heading(heading, &format!("{} in {waits}", duration(time)))?;
            continue;
        }
        page.heading(heading, explanation)?;
        if state == State::Pool {
            super::pool::pools(page)?;
        }
        for site in sites.iter().take(APART) {
            brief(page, site)?;
        }
        and_more(page, &sites, APART)?;
    }
    Ok(())
}

/// One site on one line.
fn brief(page: &mut Page<'_>, site: &Site) -> io::Result<()> {
    let mut line = page.line();
    line.push_right(PLAIN, &duration(site.total_ns), 14)
        .push_right(DIM, &counted(site.waits, "wait", "waits"), 16)
        .push(PLAIN, "  ");
    let room = page.width.saturating_sub(line.width());
    let (function, wait) = (display_name(&site.function), display_name(&site.wait));
    // A framework's function says less than what was called.
    let (function, mut wait) = if site.inlined_into {
        (wait, format!(" in {function}"))
    } else {
        (function, format!(" in {wait}"))
    };
    if let Some(process) = process_name(page.report, site.pid) {
        wait.push_str(&format!(" of {}", sanitize(&process)));
    }
    if width(&function) + width(&wait) <= room {
        line.push(PLAIN, &function).push(DIM, &wait);
    } else {
        line.push(PLAIN, &page.fit_left(&function, room));
    }
    page.put(&line)
}
