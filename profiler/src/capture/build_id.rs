//! Which build a debug file is of.

use object::Object;
use std::fs::{self, File};
use std::path::Path;

/// The build ID of an ELF file in hexadecimal.
pub(super) fn build_id(path: &Path) -> Option<String> {
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let cache = object::ReadCache::new(File::open(path).ok()?);
    let file = object::File::parse(&cache).ok()?;
    let bytes = file.build_id().ok()??;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
