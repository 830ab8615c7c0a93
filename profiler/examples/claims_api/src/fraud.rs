//! The fraud model: a thread of its own that scores claims in batches.

use futures::channel::oneshot;
use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long the model takes for one batch, however large.
const BATCH_TIME: Duration = Duration::from_millis(30);

struct Job {
    claim: u64,
    score: oneshot::Sender<u64>,
}

/// The way to the model's thread, which ends with this value.
#[derive(Debug)]
pub struct FraudScorer {
    jobs: mpsc::Sender<Job>,
}

impl FraudScorer {
    /// Starts the model's thread.
    pub fn start() -> io::Result<FraudScorer> {
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::Builder::new()
            .name("fraud-model".to_owned())
            .spawn(move || {
                while let Ok(first) = queue.recv() {
                    let batch: Vec<Job> = std::iter::once(first).chain(queue.try_iter()).collect();
                    thread::sleep(BATCH_TIME);
                    for job in batch {
                        // Whoever has stopped waiting needs no score.
                        let _ = job.score.send(job.claim.wrapping_mul(2_654_435_761) % 100);
                    }
                }
            })?;
        Ok(FraudScorer { jobs })
    }

    /// A claim's score, 0 to 99, when the model is done with its batch.
    pub async fn score(&self, claim: u64) -> anyhow::Result<u64> {
        let (score, result) = oneshot::channel();
        self.jobs.send(Job { claim, score })?;
        Ok(result.await?)
    }

    /// Waits for the score with another executor's `block_on`, which knows nothing of tokio and
    /// puts the whole worker to sleep. (tokio's own `block_on` would panic here.)
    pub fn score_with_block_on(&self, claim: u64) -> anyhow::Result<u64> {
        futures::executor::block_on(self.score(claim))
    }
}
