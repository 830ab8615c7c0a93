//! Reports of a recording that goes on.

use super::drawing::Drawing;
use super::output::{self, Output, Written};
use super::progress::Progress;
use crate::report::Report;
use std::cell::RefCell;
use std::pin::Pin;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// The outputs, of which each gets reports of so far until it gets that of the whole.
#[derive(Debug)]
pub(super) struct EarlyReports {
    outputs: Vec<Output>,
    drawing: Drawing,
    /// The one that is being written: by a thread of its own, so that the recording goes on.
    under_way: RefCell<Option<JoinHandle<Written>>>,
}

impl EarlyReports {
    pub(super) fn new(outputs: Vec<Output>, drawing: Drawing) -> EarlyReports {
        EarlyReports {
            outputs,
            drawing,
            under_way: RefCell::new(None),
        }
    }

    /// Writes `report` to all of them, and says so.
    pub(super) async fn write(&self, report: Report, progress: &Progress) {
        let (again, failures) = output::again(&self.outputs);
        let drawing = self.drawing.clone();
        let writing = tokio::task::spawn_blocking(move || {
            let mut written = output::write_all(again, drawing.of(&report));
            written.failures.extend(failures);
            written
        });
        *self.under_way.borrow_mut() = Some(writing);
        let written = std::future::poll_fn(|context| {
            match self.under_way.borrow_mut().as_mut() {
                Some(writing) => Pin::new(writing).poll(context),
                // Taken by whoever ends the recording, who waits for nothing of this.
                None => std::task::Poll::Pending,
            }
        });
        let written = written.await;
        self.under_way.borrow_mut().take();
        progress.clear();
        // A panic has told of itself.
        say(&written.unwrap_or_default(), progress);
    }

    /// Gives the outputs back, once nothing is written to them any more.
    pub(super) fn finish(self, runtime: &Runtime, progress: &Progress) -> Vec<Output> {
        if let Some(writing) = self.under_way.into_inner() {
            say(&runtime.block_on(writing).unwrap_or_default(), progress);
        }
        self.outputs
    }
}

fn say(written: &Written, progress: &Progress) {
    for failure in &written.failures {
        progress.error(failure);
    }
    progress.say(&match written.files.as_slice() {
        [] => "wrote a report of so far".to_owned(),
        files => format!("wrote a report of so far: {}", files.join(", ")),
    });
}
