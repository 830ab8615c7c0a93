//! The command line: what was asked for, one file a verb, and what is said on standard error.

mod accepted;
mod args;
mod capture;
mod captured;
mod check;
mod check_target;
mod conditions;
mod diff;
mod dump;
mod engine;
mod error;
mod escape;
mod exit;
mod gate;
mod hint;
mod interrupt;
mod list;
mod live;
mod names;
mod output;
mod pending_file;
mod probe;
mod progress;
mod record;
mod report;
mod run;
mod settings;
mod shared_args;
mod stream;
mod targets;
mod values;

pub use exit::Exit;
pub use run::run;
