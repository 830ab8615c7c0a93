//! The engine that records with BPF.

use super::engine::{Engine, Format, RenderOptions, Session, SessionOptions};
use crate::error::{Error, Result};
use crate::host::Features;
use crate::model::{Recording, Report};
use crate::process::Target;
use std::io::{self, Write};
use std::sync::Arc;

/// The rooms of this program. TO PLUG IN: `bpf` as [`Session`] and `render` in
/// [`Engine`]; nothing else in `cli` changes.
#[derive(Debug)]
pub(crate) enum Live {}

impl Engine for Live {
    type Session = Live;

    fn report(recording: &Recording) -> Report {
        crate::model::build(recording)
    }

    fn render(
        _format: Format,
        _report: &Report,
        _options: &RenderOptions,
        _out: &mut dyn Write,
    ) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Session for Live {
    fn start(
        _target: Arc<Target>,
        _features: &Features,
        _options: &SessionOptions,
    ) -> Result<Live> {
        Err(Error::new(
            "this build of holdup has no kernel programs, and records nothing",
        ))
    }

    async fn run(&mut self, _stop: impl Future<Output = ()>) -> Result<()> {
        match *self {}
    }

    fn finish(self, _ended: Option<String>) -> Result<Recording> {
        match self {}
    }
}
