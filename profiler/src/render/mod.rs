//! Reports drawn: each renderer is a pure function of a [`Report`](crate::report::Report) and
//! [`Options`].

mod alike;
pub mod blame;
mod check;
mod ci;
pub mod diff;
mod drawn;
mod escape;
pub mod export;
pub mod flamegraph;
pub mod folded;
mod format;
mod html;
mod human;
pub mod json;
mod list;
mod name;
mod options;
mod palette;
mod states;
mod svg;
pub mod text;
pub mod wakers;
pub mod wall;

pub use check::json as check_json;
pub use escape::sanitize;
pub use format::{Format, render};
pub use human::{count, duration, percent};
pub use json::dump as dump_json;
pub use list::json as list_json;
use name::process_name;
pub use name::{display_name, display_path};
pub use options::Options;
pub use text::{
    DumpOptions, in_ascii, render_check as check_text, render_diff as diff_text,
    render_dump as dump_text, render_list as list_text, render_site as site_text,
};
