//! The blocking pools.

use super::page::Page;
use super::style::{BAD, PLAIN, WARN};
use super::verdict_words::Words;
use crate::counted::counted;
use crate::render::{count, duration, percent, process_name, sanitize};
use crate::report::BlockingPool;
use crate::units::{Nanos, Pid};
use std::io;

/// That a pool was full, as a verdict.
pub(super) fn full(of: &str, threads: u32, total: Nanos, share: f64, queued: u64) -> Words {
    let who = match threads {
        1 => format!("The only thread of the blocking pool{of} was"),
        2 => format!("Both threads of the blocking pool{of} were"),
        more => format!("All {more} threads of the blocking pool{of} were"),
    };
    let line = match queued {
        0 => "512 are as many as tokio starts unless it is told otherwise: what came meanwhile waited in \
              line for one"
            .to_owned(),
        queued => {
            let closures = counted(queued, "closure", "closures");
            format!("At least {closures} waited in line for one meanwhile")
        }
    };
    let text = format!(
        "{who} waiting in closures of spawn_blocking at once for {} ({} of the time). {line}, and with \
         them the tasks that wait for a closure, for a file (`tokio::fs`) or for a name look-up. Let the \
         closures wait for less, bound how many there are (`tokio::sync::Semaphore`), or allow more \
         threads (`max_blocking_threads`).",
        duration(total),
        percent(share)
    );
    Words::new(BAD, "POOL FULL", text)
}

/// That a pool was full, beside another verdict.
pub(super) fn full_too(of: &str, pool: &BlockingPool) -> String {
    format!(
        " The blocking pool{of} was full, too: {} waiting in closures at once for {}, and what came \
         meanwhile waited in line.",
        counted(u64::from(pool.peak_busy), "thread", "threads"),
        duration(pool.peak_ns)
    )
}

/// The blocking pools; of several processes each has its own.
pub(super) fn pools(page: &mut Page<'_>) -> io::Result<()> {
    for pool in &page.report.pools {
        let process = process_name(page.report, pool.pid);
        let process = process.map_or_else(String::new, |name| format!("{}: ", sanitize(&name)));
        let text = format!(
            "{process}{}, at most {} waiting in closures at once{}{}; busy for {}, waiting for {} of it \
             ({})",
            counted(u64::from(pool.threads), "thread", "threads"),
            pool.peak_busy,
            in_line(pool),
            at_end(page, pool.pid),
            duration(pool.busy_ns),
            duration(pool.waiting_ns),
            percent(pool.waiting_share)
        );
        page.labelled((PLAIN, ""), 2, &text)?;
        if pool.near_default_limit {
            let text = "The pool is near tokio's default limit of 512 threads, beyond which \
                        closures queue up (its own limit, max_blocking_threads, is not known).";
            page.labelled((WARN, ""), 2, text)?;
        }
    }
    Ok(())
}

/// How many closures waited for a thread when the recording ended, by tokio's own number.
fn at_end(page: &Page<'_>, pid: Pid) -> String {
    let processes = page.report.targets.iter();
    let full = processes
        .filter(|process| process.pid == pid)
        .flat_map(|process| &process.tokio.full_pools);
    match full.map(|full| u64::from(full.queued)).sum() {
        0 => String::new(),
        queued => format!(", {} more in line at the end", count(queued)),
    }
}

/// How many closures waited for a thread, where some did.
fn in_line(pool: &BlockingPool) -> String {
    match pool.closures_queued {
        0 => String::new(),
        queued => format!(", at least {queued} of {} in line before", pool.closures),
    }
}
