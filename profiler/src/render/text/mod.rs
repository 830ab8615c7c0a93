//! The report on a terminal: what an engineer who is on call must know first comes first.

mod ascii;
mod blame;
mod calls;
mod check;
mod cpu;
mod diff;
mod dump;
mod footer;
mod header;
mod line;
mod list;
mod may_hide;
mod one_site;
mod open;
mod others;
mod page;
mod paper;
mod polls;
mod pool;
mod queued;
mod sections;
mod sites;
mod stops;
mod style;
mod tokio_notes;
mod totals;
mod unclear;
mod verdict_words;
mod wakers;
mod workers;

/// What other renderers say in the same words.
pub(super) mod words {
    pub(in crate::render) use super::blame::{harm, meanwhile};
    pub(in crate::render) use super::cpu::what as cpu_part;
    pub(in crate::render) use super::footer::{lost, note_texts, nothing_lost};
    pub(in crate::render) use super::header::{Tone, file_and_line, location, spoken, tokio};
    pub(in crate::render) use super::open::{
        CIRCLE_NOTE, DEADLOCKS, circle, circle_heading, object as open_object,
    };
    pub(in crate::render) use super::polls::{longest, parts};
    pub(in crate::render) use super::sites::{
        INLINED, held_up, object_texts, other_causes, waits, why,
    };
    pub(in crate::render) use super::wakers::texts as wakers;
    pub(in crate::render) use super::workers::{groups, label, stretches, title};
}

pub use ascii::spelled as in_ascii;
pub use check::render as render_check;
pub use diff::render as render_diff;
pub use dump::{DumpOptions, render as render_dump};
pub(super) use header::headline;
pub use list::render as render_list;
pub use one_site::render as render_site;
pub use sections::render;
