//! Submitting claims to the clearinghouse, which is often busy: ask again, a little later.

use crate::upstream::Gateway;
use anyhow::bail;
use std::thread;
use std::time::Duration;

const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// Pauses that grow from attempt to attempt.
#[derive(Debug)]
pub struct BackOff {
    next: Duration,
}

impl Default for BackOff {
    fn default() -> BackOff {
        BackOff { next: FIRST_PAUSE }
    }
}

impl BackOff {
    /// The next pause, twice as long as the last one.
    pub fn next_pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST_PAUSE);
        pause
    }

    /// Pauses the thread, and with it every task of its worker.
    pub fn pause_with_thread_sleep(&mut self) {
        thread::sleep(self.next_pause());
    }

    /// Pauses this task alone.
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.next_pause()).await;
    }
}

/// The way to the clearinghouse.
#[derive(Debug)]
pub struct Clearinghouse {
    gateway: Gateway,
}

impl Clearinghouse {
    /// The clearinghouse behind `gateway`.
    pub fn new(gateway: Gateway) -> Clearinghouse {
        Clearinghouse { gateway }
    }

    /// Submits a claim and returns how many attempts it took. Between them the thread sleeps.
    pub async fn submit_with_thread_sleep(&self, claim: u64) -> anyhow::Result<u32> {
        let mut back_off = BackOff::default();
        for attempt in 1..=ATTEMPTS {
            if self
                .gateway
                .ask(&format!("SUBMIT {claim} {attempt}"))
                .await?
                == "ACCEPTED"
            {
                return Ok(attempt);
            }
            back_off.pause_with_thread_sleep();
        }
        bail!("the clearinghouse was busy {ATTEMPTS} times")
    }

    /// The same, but between attempts only the task sleeps.
    pub async fn submit(&self, claim: u64) -> anyhow::Result<u32> {
        let mut back_off = BackOff::default();
        for attempt in 1..=ATTEMPTS {
            if self
                .gateway
                .ask(&format!("SUBMIT {claim} {attempt}"))
                .await?
                == "ACCEPTED"
            {
                return Ok(attempt);
            }
            back_off.pause().await;
        }
        bail!("the clearinghouse was busy {ATTEMPTS} times")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut back_off = BackOff::default();
        let pauses: Vec<_> = (0..6).map(|_| back_off.next_pause().as_millis()).collect();
        assert_eq!(pauses, [25, 50, 100, 200, 400, 400]);
    }
}
