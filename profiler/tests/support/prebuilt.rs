//! Programs and libraries for trials on a machine that cannot build them.

use super::fixture::Variant;
use super::{library, lookalike, one_thread};
use std::path::PathBuf;

/// What builds some of them, and what it is called as far as `--skip` is concerned.
type Others = (&'static str, fn() -> Result<Vec<PathBuf>, String>);

const OTHERS: [Others; 3] = [
    ("library::", library::build),
    (lookalike::NAME, || Ok(vec![lookalike::built()?])),
    (one_thread::NAME, || Ok(vec![one_thread::built()?])),
];

/// Builds each variant and all others but for those that `skipped` leaves out, and prints the path of
/// each.
pub(crate) fn build(
    variants: impl Iterator<Item = (Variant, String)>,
    skipped: &[String],
) -> Result<(), String> {
    let is_skipped = |name: &str| skipped.iter().any(|skip| name.contains(skip.as_str()));
    for (variant, name) in variants {
        if is_skipped(&name) {
            continue;
        }
        if let Some(reason) = variant.missing() {
            eprintln!("{name} is left out: {reason}");
            continue;
        }
        println!("{}", variant.build()?.display());
    }
    for (name, build) in OTHERS {
        // Whoever records a library is in several trials.
        if name != "library::" && is_skipped(name) {
            continue;
        }
        for path in build()? {
            println!("{}", path.display());
        }
    }
    Ok(())
}
