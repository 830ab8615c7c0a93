//! What each member still pays before the insurer does: the deductibles, behind a lock.

use crate::upstream::Gateway;
use anyhow::Context as _;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

const MEMBERS: u64 = 40;
const YEARLY_DEDUCTIBLE_CENTS: u64 = 150_000;

type DeductiblesLeft = HashMap<u64, u64>;

/// The deductibles, twice: once under each kind of lock, for the example shows both.
#[derive(Debug)]
pub struct Ledger {
    gateway: Gateway,
    under_std_mutex: Mutex<DeductiblesLeft>,
    under_tokio_mutex: tokio::sync::Mutex<DeductiblesLeft>,
}

impl Ledger {
    /// Nobody has paid anything yet.
    pub fn new(gateway: Gateway) -> Ledger {
        Ledger {
            gateway,
            under_std_mutex: Mutex::default(),
            under_tokio_mutex: tokio::sync::Mutex::default(),
        }
    }

    /// Prices a claim, in cents that the member pays. The lock is held while the gateway looks
    /// the rate up, so every other worker that prices a claim stops at the lock.
    pub fn price_under_std_mutex(&self, claim: u64) -> anyhow::Result<u64> {
        let mut left = self
            .under_std_mutex
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let rate = self.gateway.ask_blocking(&format!("RATE {claim}"))?;
        let rate = rate.parse().context("the rate is not a number")?;
        Ok(settle(&mut left, claim, rate))
    }

    /// Prices a claim under a lock that tasks wait for, not threads. (Better still, where the
    /// rate need not be known under the lock: ask first, then lock for the sum alone.)
    pub async fn price(&self, claim: u64) -> anyhow::Result<u64> {
        let mut left = self.under_tokio_mutex.lock().await;
        let rate = self.gateway.ask(&format!("RATE {claim}")).await?;
        let rate = rate.parse().context("the rate is not a number")?;
        Ok(settle(&mut left, claim, rate))
    }
}

fn settle(left: &mut DeductiblesLeft, claim: u64, rate: u64) -> u64 {
    let left = left
        .entry(claim % MEMBERS)
        .or_insert(YEARLY_DEDUCTIBLE_CENTS);
    let paid_by_member = rate.min(*left);
    *left -= paid_by_member;
    paid_by_member
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_member_pays_until_the_deductible_is_used_up() {
        let mut left = DeductiblesLeft::new();
        assert_eq!(settle(&mut left, 7, 100_000), 100_000);
        assert_eq!(settle(&mut left, 7 + MEMBERS, 100_000), 50_000);
        assert_eq!(settle(&mut left, 7, 100_000), 0);
        assert_eq!(settle(&mut left, 8, 1), 1);
    }
}
