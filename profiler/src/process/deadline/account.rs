//! How long whoever serves reads has been waited for, and how long he may be.
//!
//! One deadline a read is not enough: a hundred processes may each let the first one pass, and a
//! server may answer each of a thousand reads just in time. So each has an account of the time that
//! he was waited for, and all of them together have one. An account empties itself, slowly: who
//! does not answer costs a long recording a small part of its time.

use super::Server;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// What a read takes that is served from memory; it does not count.
const FREE: Duration = Duration::from_millis(1);
/// One part in so many of the time that passes is forgotten.
const FORGIVEN: u32 = 20;
/// How long one who always answered is waited for when others have used up all patience. With
/// every four of those it is shorter by as much again.
const GRACE: Duration = Duration::from_millis(30);
/// Less than this is no time to answer.
const LEAST: Duration = Duration::from_millis(20);
/// Accounts that are kept. Beyond them those that are empty are forgotten.
const MANY: usize = 1024;

/// Time that was waited.
#[derive(Clone, Copy, Debug)]
struct Account {
    spent: Duration,
    at: Instant,
}

impl Account {
    fn new(now: Instant) -> Account {
        Account {
            spent: Duration::ZERO,
            at: now,
        }
    }

    fn spent(&self, now: Instant) -> Duration {
        let forgiven = now.saturating_duration_since(self.at) / FORGIVEN;
        self.spent.saturating_sub(forgiven)
    }

    fn add(&mut self, time: Duration, most: Duration, now: Instant) {
        self.spent = self.spent(now).saturating_add(time).min(most);
        self.at = now;
    }
}

/// The accounts of all servers of a kind.
#[derive(Debug)]
pub(super) struct Accounts {
    /// What each has, and all together.
    most: Duration,
    of: HashMap<Server, Account>,
    all: Account,
}

impl Accounts {
    pub(super) fn new(most: Duration) -> Accounts {
        Accounts {
            most,
            of: HashMap::new(),
            all: Account::new(Instant::now()),
        }
    }

    /// How long `server` may be waited for now; none where he is not to be asked.
    pub(super) fn patience(&self, server: Server) -> Option<Duration> {
        self.patience_at(server, Instant::now())
    }

    fn patience_at(&self, server: Server, now: Instant) -> Option<Duration> {
        let left = |account: &Account| self.most.saturating_sub(account.spent(now));
        let is_bad = |account: &Account| left(account) < self.most / 2;
        let (own, all) = (self.of.get(&server), left(&self.all));
        let patience = own.map_or(self.most, left);
        if own.is_some_and(is_bad) {
            return Some(patience.min(all)).filter(|patience| *patience >= LEAST);
        }
        let bad = self.of.values().filter(|one| is_bad(one)).count() / 4;
        let grace = GRACE / u32::try_from(bad + 1).unwrap_or(u32::MAX);
        Some(patience.min(all.max(grace)))
    }

    /// He answered after so long.
    pub(super) fn took(&mut self, server: Server, time: Duration) {
        if let Some(time) = time.checked_sub(FREE).filter(|time| !time.is_zero()) {
            self.add(server, time, time, Instant::now());
        }
    }

    /// He did not answer within `patience`.
    pub(super) fn in_vain(&mut self, server: Server, patience: Duration) {
        self.add(server, self.most, patience, Instant::now());
    }

    fn add(&mut self, server: Server, own: Duration, all: Duration, now: Instant) {
        if self.of.len() >= MANY {
            self.of.retain(|_, one| !one.spent(now).is_zero());
        }
        let account = self.of.entry(server).or_insert_with(|| Account::new(now));
        account.add(own, 2 * self.most, now);
        self.all.add(all, 2 * self.most, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Pid;

    const PATIENCE: Duration = Duration::from_millis(800);
    const ONE: Server = Server::Memory(Pid(1));

    #[test]
    fn who_does_not_answer_is_asked_again_for_a_small_part_of_the_time() {
        let (mut accounts, begin) = (Accounts::new(PATIENCE), Instant::now());
        assert_eq!(accounts.patience_at(ONE, begin), Some(PATIENCE));
        let (mut now, mut waited) = (begin, Duration::ZERO);
        while now < begin + 100 * PATIENCE {
            now += Duration::from_millis(10);
            if let Some(patience) = accounts.patience_at(ONE, now) {
                accounts.add(ONE, PATIENCE, patience, now);
                now += patience;
                waited += patience;
            }
        }
        assert!(waited > PATIENCE && waited < 7 * PATIENCE, "{waited:?}");
    }

    #[test]
    fn who_answers_each_time_just_in_time_is_found_out() {
        let (mut accounts, mut now) = (Accounts::new(PATIENCE), Instant::now());
        let (begin, each) = (now, Duration::from_millis(100));
        let mut answers = 0;
        while accounts
            .patience_at(ONE, now)
            .is_some_and(|patience| patience > each)
        {
            accounts.add(ONE, each, each, now);
            now += each;
            answers += 1;
        }
        assert!((5..12).contains(&answers), "{answers}");
        assert!(now - begin < 2 * PATIENCE);
    }

    #[test]
    fn many_who_do_not_answer_cost_little_more_than_one() {
        let (mut accounts, mut now) = (Accounts::new(PATIENCE), Instant::now());
        let begin = now;
        for number in 0..200 {
            let server = Server::Memory(Pid(number));
            let patience = accounts.patience_at(server, now).expect("it is asked once");
            accounts.add(server, PATIENCE, patience, now);
            now += patience;
        }
        let took = now - begin;
        assert!(took < 2 * PATIENCE, "{took:?}");
        let honest = Server::Memory(Pid(1000));
        let patience = accounts.patience_at(honest, now).expect("it is asked");
        assert!(patience >= Duration::from_micros(500), "{patience:?}");
    }
}
