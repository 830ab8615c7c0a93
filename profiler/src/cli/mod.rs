//! The command line: what was asked for, one file a verb, and what is said on standard error.

mod args;
mod check;
mod check_target;
mod dump;
mod engine;
mod error;
mod escape;
mod exit;
mod held_log;
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
mod run;
mod screen;
mod settings;
mod targets;
mod top;
mod top_save;
mod top_settings;
mod values;

pub use exit::Exit;
pub use run::run;
