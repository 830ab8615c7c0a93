//! How reports are drawn.

use super::output::IsStdout;
use crate::render::{self, Format};
use crate::report::Report;

/// The options of each output.
#[derive(Clone, Debug)]
pub(super) struct Drawing {
    stdout: render::Options,
    files: render::Options,
}

impl Drawing {
    /// On standard output so, and in files as it is fit for those.
    pub(super) fn new(rendering: &render::Options) -> Drawing {
        Drawing {
            stdout: rendering.clone(),
            files: rendering.for_files(),
        }
    }

    /// Draws `report` in any format.
    pub(super) fn of(
        &self,
        report: &Report,
    ) -> impl Fn(Format, IsStdout, &mut dyn std::io::Write) -> std::io::Result<()> {
        move |format, stdout, out| render::render(format, report, self.options(stdout), out)
    }

    /// Those of one output.
    pub(super) fn options(&self, stdout: IsStdout) -> &render::Options {
        match stdout {
            IsStdout(true) => &self.stdout,
            IsStdout(false) => &self.files,
        }
    }
}
