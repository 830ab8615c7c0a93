//! Decision letters: read the template, fill it in, make the letter durable.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::AsyncWriteExt as _;

/// Read from the disk for every letter, so that the office can change it without a restart.
const TEMPLATE: &str = include_str!("../templates/decision_letter.txt");

const LINES: u64 = 400;

/// Writes decision letters into a folder.
#[derive(Debug)]
pub struct LetterWriter {
    template: PathBuf,
    letters: PathBuf,
    drafts: AtomicU64,
}

impl LetterWriter {
    /// Puts the template into `data_dir` and the letters into a folder beside it.
    pub fn new(data_dir: &Path) -> io::Result<LetterWriter> {
        let template = data_dir.join("decision_letter.txt");
        let letters = data_dir.join("letters");
        fs::create_dir_all(&letters)?;
        fs::write(&template, TEMPLATE)?;
        Ok(LetterWriter {
            template,
            letters,
            drafts: AtomicU64::new(0),
        })
    }

    /// Writes with `std::fs`. Each of the steps may wait for the disk, `sync_all` always does,
    /// and the worker waits with it.
    pub fn write_with_std_fs(&self, claim: u64) -> io::Result<usize> {
        let letter = fill(&fs::read_to_string(&self.template)?, claim);
        let draft = self.draft();
        let mut file = File::create(&draft)?;
        file.write_all(letter.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, self.letter(claim))?;
        File::open(&self.letters)?.sync_all()?;
        Ok(letter.len())
    }

    /// The same with `tokio::fs`, which does each step on a thread of the blocking pool.
    pub async fn write(&self, claim: u64) -> io::Result<usize> {
        let letter = fill(&tokio::fs::read_to_string(&self.template).await?, claim);
        let draft = self.draft();
        let mut file = tokio::fs::File::create(&draft).await?;
        file.write_all(letter.as_bytes()).await?;
        file.sync_all().await?;
        tokio::fs::rename(&draft, self.letter(claim)).await?;
        tokio::fs::File::open(&self.letters)
            .await?
            .sync_all()
            .await?;
        Ok(letter.len())
    }

    /// A name of its own for each draft: two requests may ask for the same letter.
    fn draft(&self) -> PathBuf {
        let n = self.drafts.fetch_add(1, Ordering::Relaxed);
        self.letters.join(format!("draft-{n}"))
    }

    fn letter(&self, claim: u64) -> PathBuf {
        self.letters.join(format!("claim-{claim}.txt"))
    }
}

fn fill(template: &str, claim: u64) -> String {
    let lines: Vec<String> = (1..=LINES)
        .map(|n| {
            format!(
                "service {n:>4}    charged {:>6}    covered {:>6}",
                n * 125,
                n * 100
            )
        })
        .collect();
    template
        .replace("{claim}", &claim.to_string())
        .replace("{line}", &lines.join("\n    "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filled_letter_has_no_placeholder_left() {
        let letter = fill(TEMPLATE, 4711);
        assert_eq!(letter.matches("4711").count(), 2);
        assert!(!letter.contains('{'), "{letter}");
    }

    #[test]
    fn a_second_letter_replaces_the_first_and_leaves_no_draft() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let writer = LetterWriter::new(dir.path())?;
        let len = writer.write_with_std_fs(1)?;
        assert_eq!(writer.write_with_std_fs(1)?, len);
        let names: Vec<_> = fs::read_dir(dir.path().join("letters"))?
            .map(|e| e.map(|e| e.file_name()))
            .collect::<Result<_, _>>()?;
        assert_eq!(names, ["claim-1.txt"]);
        Ok(())
    }
}
