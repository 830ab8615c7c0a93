//! What a reader may choose.

use crate::runtime::State;

/// How reports are drawn. Every renderer takes what concerns it.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Columns of the text report; below 40 it is drawn as for 40.
    pub width: usize,
    /// Whether the text report has colours.
    pub color: bool,
    /// Whether the text report cuts what is longer than a line, as a terminal has need of.
    pub cut: bool,
    /// Whether the text report is to do with ASCII, for terminals that show no more.
    pub ascii: bool,
    /// Whether the text report ends with the verdict, the workers and a line for each site.
    pub brief: bool,
    /// Sites of one kind that the text report lists before it sums the rest up.
    pub max_sites: usize,
    /// Those of them with everything that is known; the others have three lines.
    pub sites_in_full: usize,
    /// The states in flamegraphs and folded stacks.
    pub states: Vec<State>,
    /// Whether flamegraphs and folded stacks draw the frames outside a task, and each run of
    /// library frames inside it, as one, and instead of the kernel's frames why a thread waited.
    pub collapse_runtime: bool,
    /// Flamegraph frames narrower than this are left out, in percent of the width.
    pub min_width: f64,
    /// Whether flamegraphs grow from the top down.
    pub icicle: bool,
    /// Where the sources are that annotations name by their place below it.
    pub sources: Option<String>,
    /// The title of the flamegraph.
    pub title: String,
}

impl Options {
    /// The same for files, which no terminal shows.
    #[must_use]
    pub fn for_files(&self) -> Options {
        Options {
            color: false,
            width: Options::default().width,
            cut: false,
            ascii: false,
            ..self.clone()
        }
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            width: 80,
            color: false,
            cut: true,
            ascii: false,
            brief: false,
            max_sites: 10,
            sites_in_full: 5,
            states: vec![
                State::Blocked,
                State::Runtime,
                State::HandedOff,
                State::Pool,
                State::Unknown,
            ],
            collapse_runtime: true,
            min_width: 0.01,
            icicle: false,
            sources: None,
            title: "Blocked time".to_owned(),
        }
    }
}
