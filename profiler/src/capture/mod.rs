//! The capture: a recording in one file, an SQLite database. `docs/capture.md` describes its tables.
//!
//! - Writing: [`writer`] has one transaction an interval, [`news`] finds what is new in the tables of
//!   names, [`rows`] writes rows.
//! - Reading: [`reader`] checks whose file it is, [`names`] reads the tables of names, [`stream`] the
//!   intervals, [`limits`] says how much there may be.
//! - [`debuginfod`] fetches debug files from servers.
//! - [`late_names`] names what was stripped when it was recorded.
//! - The file: [`pages`] says how a transaction gets into it, [`commit`] does it, [`committed`] reads
//!   what came of it, [`vfs`] is SQLite's way to both.
//! - [`schema`] has the tables, [`words`] the form of single values.

mod build_id;
mod commit;
mod committed;
mod debuginfod;
mod error;
mod late_names;
mod limits;
mod names;
mod news;
mod pages;
mod reader;
mod rows;
mod schema;
mod stream;
mod vfs;
mod words;
mod writer;

pub use debuginfod::Debuginfod;
pub use error::{Error, Result};
pub use late_names::{DebugFiles, LateNames, name_late};
pub use news::{News, Told};
pub use reader::{Capture, End, Range};
pub use schema::{APPLICATION_ID, VERSION};
pub use writer::{Bounds, Summary, Writer};
