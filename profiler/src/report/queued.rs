//! What blocked workers held up.

use crate::runtime::Queued;
use schemars::JsonSchema;
use serde::Serialize;

/// The tasks that workers had with them when they began to wait in long polls: none of them runs until
/// the poll is over, unless another worker comes and takes some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct QueuedTasks {
    /// Polls of which it is known.
    pub polls: u64,
    /// Those of them with a task in the LIFO slot, from which other workers do not take (tokio 1.51.0
    /// to 1.52.1 apart).
    pub polls_with_lifo: u64,
    /// Tasks in all of these polls, those in the LIFO slot among them.
    pub tasks: u64,
    /// The most in one poll.
    pub most: u32,
}

impl QueuedTasks {
    /// Counts a poll in.
    pub fn add(&mut self, queued: Queued) {
        self.polls += 1;
        self.polls_with_lifo += u64::from(queued.in_slot);
        self.tasks = self.tasks.saturating_add(queued.tasks().into());
        self.most = self.most.max(queued.tasks());
    }

    /// Counts others in.
    pub fn merge(&mut self, more: &QueuedTasks) {
        self.polls = self.polls.saturating_add(more.polls);
        self.polls_with_lifo = self.polls_with_lifo.saturating_add(more.polls_with_lifo);
        self.tasks = self.tasks.saturating_add(more.tasks);
        self.most = self.most.max(more.most);
    }

    /// How many there were in a poll, on average.
    #[must_use]
    pub fn average(&self) -> f64 {
        match self.polls {
            0 => 0.0,
            polls => self.tasks as f64 / polls as f64,
        }
    }
}
