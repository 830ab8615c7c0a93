//! Claims in SQLite, and the batch job that keeps the database locked now and then.

use rusqlite::{Connection, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a statement waits for another connection's lock before it fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS claims (
        id INTEGER PRIMARY KEY,
        member INTEGER NOT NULL,
        charged_cents INTEGER NOT NULL,
        adjusted INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX IF NOT EXISTS claims_by_member ON claims (member);
";

/// The claims' database.
#[derive(Debug)]
pub struct ClaimStore {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    _adjustments: Adjustments,
}

/// What a member was charged so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charges {
    /// How many claims.
    pub claims: i64,
    /// Their charges together.
    pub cents: i64,
}

impl ClaimStore {
    /// Opens the database, made if there is none, and starts the batch job.
    pub fn open(path: &Path) -> anyhow::Result<ClaimStore> {
        let first = connect(path)?;
        first.execute_batch(SCHEMA)?;
        Ok(ClaimStore {
            path: path.to_owned(),
            idle: Mutex::new(vec![first]),
            _adjustments: Adjustments::start(path)?,
        })
    }

    /// Sums a member's claims up. SQLite does its work on the calling thread: it reads files,
    /// and while another connection holds the lock it sleeps and tries again.
    pub fn charges_of(&self, member: u32) -> rusqlite::Result<Charges> {
        self.with_connection(|db| {
            db.prepare_cached(
                "SELECT count(*), coalesce(sum(charged_cents), 0) FROM claims WHERE member = ?1",
            )?
            .query_row([member], |row| {
                Ok(Charges {
                    claims: row.get(0)?,
                    cents: row.get(1)?,
                })
            })
        })
    }

    /// Records a claim and returns its id. The commit waits for the disk (`synchronous = FULL`).
    pub fn record_claim(&self, member: u32, cents: u32) -> rusqlite::Result<i64> {
        self.with_connection(|db| {
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction
                .prepare_cached("INSERT INTO claims (member, charged_cents) VALUES (?1, ?2)")?
                .execute([member, cents])?;
            let id = transaction.last_insert_rowid();
            transaction.commit()?;
            Ok(id)
        })
    }

    fn with_connection<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => connect(&self.path)?,
        };
        let result = work(&mut connection);
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
        result
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

/// The batch job: takes the database for itself every now and then, adjusts claims, lets go.
#[derive(Debug)]
struct Adjustments {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Adjustments {
    const EVERY: Duration = Duration::from_millis(250);
    const HELD_FOR: Duration = Duration::from_millis(60);

    fn start(path: &Path) -> anyhow::Result<Adjustments> {
        let mut connection = connect(path)?;
        let (stop, stopped) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("adjustments".to_owned())
            .spawn(move || {
                while stopped.recv_timeout(Self::EVERY) == Err(RecvTimeoutError::Timeout) {
                    if let Err(e) = Self::run_once(&mut connection) {
                        eprintln!("claims_api: adjustments put off: {e}");
                    }
                }
            })?;
        Ok(Adjustments {
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    fn run_once(connection: &mut Connection) -> rusqlite::Result<()> {
        let batch = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
        batch.execute(
            "UPDATE claims SET adjusted = adjusted + 1 WHERE id % 50 = 0",
            [],
        )?;
        // The job works out the adjustments while it holds the lock.
        thread::sleep(Self::HELD_FOR);
        batch.commit()
    }
}

impl Drop for Adjustments {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _: Result<(), _> = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_claims_are_summed_up_by_member() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let store = ClaimStore::open(&dir.path().join("claims.sqlite"))?;
        assert_eq!(
            store.charges_of(1)?,
            Charges {
                claims: 0,
                cents: 0
            }
        );
        let first = store.record_claim(1, 250)?;
        let second = store.record_claim(1, 50)?;
        store.record_claim(2, 9)?;
        assert_ne!(first, second);
        assert_eq!(
            store.charges_of(1)?,
            Charges {
                claims: 2,
                cents: 300
            }
        );
        Ok(())
    }
}
