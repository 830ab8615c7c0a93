//! The command line: what was asked for, one file a verb, and what is said on standard error.

mod args;
mod check;
mod check_target;
mod engine;
mod escape;
mod interrupt;
mod live;
mod names;
mod output;
mod pending_file;
mod probe;
mod progress;
mod record;
mod run;
mod settings;
mod timestamp;
mod values;

pub use engine::{Engine, Format, RenderOptions, Session, SessionOptions};
pub use run::run;
