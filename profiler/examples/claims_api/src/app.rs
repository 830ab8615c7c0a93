//! What the handlers share.

use crate::clearinghouse::Clearinghouse;
use crate::directory::Directory;
use crate::fraud::FraudScorer;
use crate::ledger::Ledger;
use crate::report::LetterWriter;
use crate::store::ClaimStore;
use crate::upstream::Gateway;
use std::path::Path;

/// The parts of the service, one per thing that it waits for.
#[derive(Debug)]
pub struct App {
    /// The payer, over TCP.
    pub gateway: Gateway,
    /// Deductibles, behind a lock.
    pub ledger: Ledger,
    /// Asked again while it is busy.
    pub clearinghouse: Clearinghouse,
    /// Letters, in files.
    pub letters: LetterWriter,
    /// The model, on a thread of its own.
    pub fraud: FraudScorer,
    /// Claims, in SQLite.
    pub store: ClaimStore,
    /// Providers, on a host found by name.
    pub directory: Directory,
}

impl App {
    /// Starts the parts. Files go into `data_dir`, which must exist.
    pub fn new(data_dir: &Path, gateway: Gateway, directory_host: &str) -> anyhow::Result<App> {
        Ok(App {
            ledger: Ledger::new(gateway),
            clearinghouse: Clearinghouse::new(gateway),
            gateway,
            letters: LetterWriter::new(data_dir)?,
            fraud: FraudScorer::start()?,
            store: ClaimStore::open(&data_dir.join("claims.sqlite"))?,
            directory: Directory::new(directory_host),
        })
    }
}
