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
mod one_site;
mod open;
mod page;
mod paper;
mod polls;
mod sections;
mod sites;
mod style;
mod tokio_notes;
mod totals;
mod wakers;
mod workers;

pub use check::render as render_check;
pub use diff::render as render_diff;
pub use dump::{DumpOptions, render as render_dump};
pub(super) use header::headline;
pub use list::render as render_list;
pub use one_site::render as render_site;
pub use sections::render;
