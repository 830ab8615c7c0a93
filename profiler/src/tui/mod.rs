//! The full-screen view of a recording that goes on: what it shows is data ([`View`]), what its reader
//! chose is data ([`State`]), a key changes only that ([`press`]), and [`draw()`] is a pure function of
//! both. Terminals are the command line's.

mod bars;
mod detail;
mod draw;
mod keys;
mod lanes;
mod look;
mod runtimes;
mod sites;
mod state;
mod text;
mod view;

pub use draw::draw;
pub use keys::keys;
pub use look::Look;
pub use state::{Effect, Key, SPANS, Sort, Span, State, press};
pub use view::{SiteId, View};
