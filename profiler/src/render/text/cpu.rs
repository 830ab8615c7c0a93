//! Where the CPU time went.

use super::line::width;
use super::page::Page;
use super::style::{DIM, PLAIN, SITE, WARN};
use crate::counted::counted;
use crate::render::{display_name, duration, percent, process_name, sanitize};
use crate::report::{CpuPart, CpuSite};
use crate::units::Nanos;
use std::io;

/// Sites of CPU time.
const SITES: usize = 5;

const HEADING: &str = "On a CPU";

/// Less than this share of one CPU is told in a line.
const LITTLE: f64 = 0.05;

/// What a thread on a CPU did, in a word.
pub(in crate::render) const fn what(part: CpuPart) -> &'static str {
    match part {
        CpuPart::Poll => "poll",
        CpuPart::BlockOn => "block_on",
        CpuPart::BlockInPlace => "block_in_place",
        CpuPart::BlockingPool => "blocking pool",
        CpuPart::Runtime => "tokio",
        CpuPart::Other => "other",
        CpuPart::Unknown => "unknown",
    }
}

/// Where the CPU time went.
pub(super) fn sites(page: &mut Page<'_>) -> io::Result<()> {
    let sites = page.report.cpu_sites.iter();
    let sites: Vec<&CpuSite> = sites.filter(|site| !page.leaves_out(site.pid)).collect();
    let all: u64 = sites.iter().map(|site| site.samples).sum();
    if all == 0 {
        return Ok(());
    }
    let samples = counted(all, "sample", "samples");
    let time: Nanos = sites.iter().map(|site| site.cpu_ns).sum();
    let is_little = time.share_of(page.report.duration_ns) < LITTLE;
    if is_little && page.report.losses.samples == 0 && page.cuts_lists() {
        let worst = sites.first().map(|site| display_name(&site.function));
        let mut text = format!("{} in {samples}", duration(time));
        let most = format!(", most in {}", worst.unwrap_or_default());
        if width(HEADING) + 2 + width(&text) + width(&most) <= page.width {
            text.push_str(&most);
        }
        return page.heading(HEADING, &text);
    }
    page.heading(HEADING, &format!("share of {samples}; most first"))?;
    for site in sites.iter().take(SITES) {
        row(page, site, all)?;
    }
    let rest: u64 = sites.iter().skip(SITES).map(|site| site.samples).sum();
    if rest > 0 {
        let more = counted((sites.len() - SITES) as u64, "more site", "more sites");
        let share = percent(rest as f64 / all as f64);
        page.labelled((PLAIN, ""), 2, &format!("… and {more}, {share} together"))?;
    }
    let lost = page.report.losses.samples;
    if lost > 0 {
        let lost = counted(lost, "more sample was lost", "more samples were lost");
        page.labelled((WARN, ""), 2, &format!("… and {lost}"))?;
    }
    Ok(())
}

fn row(page: &mut Page<'_>, site: &CpuSite, all: u64) -> io::Result<()> {
    let mut line = page.line();
    line.push_right(PLAIN, &duration(site.cpu_ns), 14)
        .push_right(PLAIN, &percent(site.samples as f64 / all as f64), 8)
        .push(PLAIN, "  ")
        .push(
            DIM,
            &page.fit_right(&format!("{:<13}", what(site.part)), 14),
        )
        .push(PLAIN, " ");
    let room = page.width.saturating_sub(line.width());
    line.push(SITE, &page.fit_left(&display_name(&site.function), room));
    // The exception is worth a word: most of it is work of the kernel's.
    if site.in_calls_ns.0.saturating_mul(2) > site.cpu_ns.0 {
        let share = percent(site.in_calls_ns.share_of(site.cpu_ns));
        let of = format!("  {share} in system calls");
        if line.width() + width(&of) <= page.width {
            line.push(DIM, &of);
        }
    }
    if let Some(process) = process_name(page.report, site.pid) {
        let of = format!(" of {}", sanitize(&process));
        if line.width() + width(&of) <= page.width {
            line.push(DIM, &of);
        }
    }
    page.put(&line)
}
