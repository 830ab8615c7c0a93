//! What continuous integration asks for, resolved from the command line and the environment.

use super::args::GateArgs;
use super::conditions::Gate;
use super::error::{Error, Result};
use crate::render::Format;
use std::ffi::OsString;

/// Whether any of the outputs annotates sources.
pub(super) fn annotate(mut formats: impl Iterator<Item = Format>) -> bool {
    formats.any(|format| matches!(format, Format::Github | Format::CodeQuality))
}

/// What makes a recording a failure.
///
/// # Errors
/// Where results of conditions are to be written, and there are none.
pub(super) fn gate(args: GateArgs, mut formats: impl Iterator<Item = Format>) -> Result<Gate> {
    let results = formats.any(|format| format == Format::Junit);
    if results && args.fail_if.is_empty() {
        let error =
            Error::usage("each condition of --fail-if is a test case of junit, and there is none");
        return Err(error.hint("--fail-if 'stall>10ms'"));
    }
    Ok(Gate {
        conditions: args.fail_if,
        accept: args.accept,
    })
}

/// Where the sources are, for annotations: where the pipeline has them, else here.
pub(super) fn sources(var: &dyn Fn(&str) -> Option<OsString>) -> Option<String> {
    let told = ["GITHUB_WORKSPACE", "CI_PROJECT_DIR"].into_iter();
    let told = told.filter_map(|name| var(name)?.into_string().ok());
    let mut told = told.filter(|dir| dir.starts_with('/'));
    told.next().or_else(|| {
        let here = std::env::current_dir().ok()?;
        here.into_os_string().into_string().ok()
    })
}
