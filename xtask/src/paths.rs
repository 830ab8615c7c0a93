//! Where things lie in the checkout.

use std::path::{Path, PathBuf};

/// The root folder of the checkout in which this program was built.
#[must_use]
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The workspace of the kernel programs.
#[must_use]
pub fn ebpf_workspace() -> PathBuf {
    root().join("profiler-ebpf")
}

/// The workspace of the fuzz targets.
#[must_use]
pub fn fuzz_workspace() -> PathBuf {
    root().join("fuzz")
}

/// The sources of the HTML report's script and style.
#[must_use]
pub fn web() -> PathBuf {
    root().join("profiler/web")
}

/// The programs that read holdup's files in the tests, and their list.
#[must_use]
pub fn consumers() -> PathBuf {
    root().join("profiler/tests/consumers")
}

/// The renderer that embeds what is built of [`web()`].
#[must_use]
pub fn page() -> PathBuf {
    root().join("profiler/src/render/html")
}

/// The compiled kernel programs, which the profiler embeds.
#[must_use]
pub fn object() -> PathBuf {
    root().join("profiler/bpf/holdup.bpf.o")
}

/// The note beside [`object()`]: what it was made from, and with what.
#[must_use]
pub fn note() -> PathBuf {
    root().join("profiler/bpf/holdup.bpf.toml")
}
