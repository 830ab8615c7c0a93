//! What the handlers share.

use crate::clearinghouse::Clearinghouse;
use crate::cli::Args;
use crate::directory::Directory;
use crate::fraud::FraudScorer;
use crate::ledger::Ledger;
use crate::report::LetterWriter;
use crate::store::ClaimStore;
use crate::upstream::Gateway;
use std::path::Path;

/// The parts of the service, one per thing that it waits for.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) gateway: Gateway,
    pub(crate) ledger: Ledger,
    pub(crate) clearinghouse: Clearinghouse,
    pub(crate) letters: LetterWriter,
    pub(crate) fraud: FraudScorer,
    pub(crate) store: ClaimStore,
    pub(crate) directory: Directory,
}

impl App {
    pub(crate) fn new(args: &Args, data_dir: &Path, gateway: Gateway) -> anyhow::Result<App> {
        Ok(App {
            ledger: Ledger::new(gateway),
            clearinghouse: Clearinghouse::new(gateway),
            gateway,
            letters: LetterWriter::new(data_dir)?,
            fraud: FraudScorer::start()?,
            store: ClaimStore::open(&data_dir.join("claims.sqlite"))?,
            directory: Directory::new(&args.directory_host),
        })
    }
}
