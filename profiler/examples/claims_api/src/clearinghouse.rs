//! Submitting claims to the clearinghouse, which is often busy: ask again, a little later.

use crate::upstream::Gateway;
use anyhow::bail;
use std::thread;
use std::time::Duration;

const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(25);

/// The way to the clearinghouse.
#[derive(Debug)]
pub(crate) struct Clearinghouse {
    gateway: Gateway,
}

impl Clearinghouse {
    pub(crate) fn new(gateway: Gateway) -> Clearinghouse {
        Clearinghouse { gateway }
    }

    /// Backs off with `thread::sleep`: the thread sleeps, and with it all tasks of its worker.
    pub(crate) async fn submit_with_thread_sleep(&self, claim: u64) -> anyhow::Result<u32> {
        for attempt in 0..ATTEMPTS {
            if self
                .gateway
                .ask(&format!("SUBMIT {claim} {attempt}"))
                .await?
                == "ACCEPTED"
            {
                return Ok(attempt + 1);
            }
            thread::sleep(FIRST_PAUSE * 2_u32.pow(attempt));
        }
        bail!("the clearinghouse was busy {ATTEMPTS} times")
    }

    /// Backs off with `tokio::time::sleep`: only this task sleeps.
    pub(crate) async fn submit(&self, claim: u64) -> anyhow::Result<u32> {
        for attempt in 0..ATTEMPTS {
            if self
                .gateway
                .ask(&format!("SUBMIT {claim} {attempt}"))
                .await?
                == "ACCEPTED"
            {
                return Ok(attempt + 1);
            }
            tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(attempt)).await;
        }
        bail!("the clearinghouse was busy {ATTEMPTS} times")
    }
}
