//! Addresses to names: [`Frame`]s out of modules and offsets.
//!
//! A name is found by, in this order: the symbol table (full paths), debug information, the
//! exported symbols, the function's start in the unwinding information, the bare offset. What
//! debug information adds are the inlined frames and the source lines. How good a name is, is
//! in [`Frame::naming`]; names are data, and not escaped here.

mod compressed;
mod cpp;
mod crates;
mod debug_process;
mod demangle;
mod frame;
mod function_path;
mod image;
mod kernel;
mod left_out;
mod library;
mod limits;
mod names;
mod origin;
mod path;
mod perf_map;
mod python;
mod readable;
mod source;
mod symbolizer;
mod system_calls;
mod time;

pub use crates::dependency_crates;
pub use frame::{Frame, FrameRef, ModulePlace, Naming, Origin, Space};
pub(crate) use function_path::normalise;
pub(crate) use image::separate_debug_file;
pub use left_out::LeftOut;
pub use origin::{Crates, origin};
pub use perf_map::PerfMap;
pub(crate) use python::TAKING_LOCK;
pub use readable::{async_body, readable};
pub use source::ModuleSource;
pub use symbolizer::Symbolizer;

/// The name of a symbol: what [`Symbolizer::user`] makes of one that it finds in a file.
#[doc(hidden)]
#[must_use]
pub fn symbol_name(symbol: &str) -> String {
    demangle::demangle(symbol).name
}
