//! The report on a terminal: what an engineer who is on call must know first comes first.

mod ascii;
mod blame;
mod calls;
mod check;
mod cpu;
mod footer;
mod header;
mod line;
mod open;
mod page;
mod polls;
mod sections;
mod sites;
mod style;
mod tokio_notes;
mod totals;
mod wakers;
mod workers;

pub use check::render as render_check;
pub use sections::render;
