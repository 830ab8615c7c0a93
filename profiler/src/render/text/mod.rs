//! The report on a terminal: what an engineer who is on call must know first comes first.

mod footer;
mod header;
mod line;
mod page;
mod sites;
mod style;
mod workers;

pub use page::render;
