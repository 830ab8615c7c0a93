//! Threads that wait for each other.

use super::sheet::Sheet;
use super::words;
use crate::counted::counted;
use crate::recording::{Holder, Object, ObjectKind};
use crate::render::text::line::width;
use crate::render::text::open::circle_heading;
use crate::render::text::style::{BAD, DIM, PLAIN};
use crate::report::dump::{Deadlock, DumpThread};
use std::io;

/// Circles that are drawn.
const DRAWN: usize = 4;
/// Threads of one that are.
const THREADS: usize = 12;
/// Column of what is said of a thread.
const TEXT: usize = 5;

/// How the next one keeps a thread waiting.
fn held(thread: &DumpThread) -> &'static str {
    let is_thread = |object: &Object| object.kind == ObjectKind::Thread;
    match &thread.holder {
        _ if thread.object.as_ref().is_some_and(is_thread) => "that is",
        Some(Holder::Thread { likely: true, .. }) => "which is likely held by",
        _ => "which is held by",
    }
}

/// Draws every circle.
pub(super) fn deadlocks(sheet: &mut Sheet<'_>) -> io::Result<()> {
    let all = &sheet.dump.deadlocks;
    for deadlock in all.iter().take(DRAWN) {
        draw(sheet, deadlock)?;
    }
    if all.len() > DRAWN {
        let more = (all.len() - DRAWN) as u64;
        let text = format!("… and {}", counted(more, "more circle", "more circles"));
        sheet.labelled((PLAIN, ""), 2, &text)?;
    }
    Ok(())
}

fn draw(sheet: &mut Sheet<'_>, deadlock: &Deadlock) -> io::Result<()> {
    let count = deadlock.threads.len();
    let explanation = match count {
        1 => "a thread waits for what it holds itself",
        _ => "threads wait for each other",
    };
    sheet.heading(circle_heading(deadlock), explanation)?;
    let threads: Vec<&DumpThread> = deadlock
        .threads
        .iter()
        .filter_map(|tid| sheet.thread(deadlock.pid, *tid))
        .collect();
    for (index, thread) in threads.iter().take(THREADS).enumerate() {
        let rail = if index == 0 { "  ┌▶ " } else { "  │  " };
        let mut line = sheet.line();
        let since = format!("  {}", words::since(thread));
        let room = sheet.width.saturating_sub(TEXT + width(&since));
        let name = words::thread(&thread.name, thread.tid);
        line.push(BAD, rail)
            .push(PLAIN, &sheet.fit_left(&name, room))
            .push(DIM, &since);
        sheet.put(&line)?;
        let object = words::object(thread).unwrap_or_else(|| "something".to_owned());
        let function = words::function(thread);
        let function = function.map_or_else(String::new, |function| format!(" in {function}"));
        let held = held(thread);
        let text = format!("waits{function} for {object}, {held}");
        sheet.labelled((BAD, "  │"), TEXT, &text)?;
    }
    if threads.len() > THREADS {
        let more = (threads.len() - THREADS) as u64;
        let text = format!("… {}", counted(more, "more thread", "more threads"));
        sheet.labelled((BAD, "  │"), TEXT, &text)?;
    }
    let mut line = sheet.line();
    let room = sheet.width.saturating_sub(TEXT);
    if let Some(first) = threads.first() {
        line.push(BAD, "  └─ ").push(
            PLAIN,
            &sheet.fit_left(&words::thread(&first.name, first.tid), room),
        );
    }
    sheet.put(&line)
}
