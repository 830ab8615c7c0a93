//! `cargo xtask vm-test`: the live tests under other kernels.
//!
//! Each kernel is one of Debian's, fetched once by apt and booted in QEMU, by software where the
//! processor cannot help. The guest has a disk with the programs that were built here, and
//! nothing else: no compiler, no network, none of this machine's files. No rights are needed.

mod disk;
mod guest;
mod host;
mod kernel;
mod monitor;
mod programs;
mod table;
mod version;

use crate::{paths, process};
use anyhow::{Context as _, Result, bail};
use children::interrupt;
use guest::Machine;
use host::{Accel, Emulator};
use kernel::{Kernel, NEWEST};
use programs::{Programs, Selection};
use rustix::fs::{FlockOperation, flock};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use table::Row;
use version::Version;

pub(crate) use host::install;

/// By how much the truth's own error of each call is multiplied under software emulation: the
/// figure is measured there, see `TrueSite::tolerance_ns` of the live tests.
const SLOWDOWN: u32 = 10;

/// Arguments of `cargo xtask vm-test`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Beginnings of versions (6.1, 6.12), or `newest`
    #[arg(value_name = "KERNEL", default_values = ["6.1", "6.12", NEWEST, "5.10"], value_parser = kernel_name)]
    kernels: Vec<String>,

    /// Run only trials whose names contain this
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,

    /// Try all variants of the fixture, also those that differ by the compiler's work only
    #[arg(long)]
    all_variants: bool,

    /// Only the trials that depend on the kernel most: a minute or two a kernel, ten where CPUs
    /// are emulated; with --filter, those that it names
    #[arg(long, conflicts_with = "all_variants")]
    quick: bool,

    /// Where trials fail or a guest hangs under emulated CPUs, boot the kernel once more; the
    /// second run counts, and what passes only in it counts as flaky
    ///
    /// There a thread may stand still for milliseconds anywhere, also while it holds a lock.
    #[arg(long)]
    retry: bool,

    /// Look for newer kernels of the same name instead of taking the cached ones
    #[arg(long)]
    renew: bool,

    /// CPUs of a guest: with more of them events come in other orders
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    cpus: u8,

    /// Seconds after which a guest is ended
    #[arg(long, value_name = "SECONDS", default_value_t = 2400)]
    timeout: u64,
}

fn kernel_name(text: &str) -> Result<String, String> {
    if text == NEWEST || Version::of(text).is_some() {
        Ok(text.to_owned())
    } else {
        Err(format!("neither `{NEWEST}` nor a version like 6.12"))
    }
}

/// Runs the guests one after another, and ends with a table.
///
/// # Errors
/// Something is missing or cannot be built or fetched. A kernel with failures is no error but a
/// failing exit code.
pub fn run(args: &Args) -> Result<ExitCode> {
    interrupt::watch().context("cannot catch signals")?;
    let cache = host::cache()?;
    let emulator = Emulator::find(&cache)?;
    let kernels = args
        .kernels
        .iter()
        .map(|wanted| Kernel::get(wanted, &cache, args.renew))
        .collect::<Result<Vec<Kernel>>>()?;
    let programs = Programs::build(Selection {
        filter: args.filter.as_deref(),
        all_variants: args.all_variants,
        quick: args.quick,
    })?;
    let work = work_folder(&programs)?;
    // Guests side by side would disturb each other's times, and replace each other's disk.
    let lock = fs::File::create(work.join("lock")).context("cannot write to the work folder")?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        eprintln!("waiting for another vm-test to end");
        flock(&lock, FlockOperation::LockExclusive).context("cannot lock the work folder")?;
    }
    let disk = disk::make(&programs, &environment(emulator.accel), &work)?;
    let machine = Machine {
        emulator: &emulator,
        disk: &disk,
        work: &work,
        cpus: args.cpus,
        patience: Duration::from_secs(args.timeout),
    };

    let mut rows = Vec::new();
    for kernel in &kernels {
        println!(
            "\n== Linux {} (QEMU {}, {})",
            kernel.release,
            emulator.version,
            emulator.accel.name()
        );
        let mut outcome = machine.run(kernel)?;
        if args.retry && emulator.accel == Accel::Tcg && outcome.may_be_chance() {
            let (hung, mut first) = (outcome.hung, outcome.results);
            match outcome.trouble {
                Some(trouble) => println!("once more: {trouble}"),
                None => println!("some trials failed, once more:{}", first.reasons()),
            }
            outcome = machine.run(kernel)?;
            if hung {
                first.hung();
            }
            outcome.results = first.retried(outcome.results);
        }
        let verdict = outcome.verdict();
        rows.push(Row {
            release: kernel.release.clone(),
            outcome,
            verdict,
        });
    }
    let date = process::output(std::process::Command::new("date").arg("+%F"))?;
    println!("\n{}", table::table(&rows, date.trim()));
    println!("{}", table::instructions(&rows));
    let mut failed = 0;
    for row in &rows {
        if let Some(flaky) = row.outcome.results.flaky_line() {
            println!("Linux {}: {flaky}", row.release);
        }
        if let Err(error) = &row.verdict {
            let reasons = row.outcome.results.reasons();
            println!("FAILED: Linux {}: {error:#}{reasons}", row.release);
            failed += 1;
        }
    }
    println!("{} kernels, {failed} failed", rows.len());
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Variables for the live tests; `CI` because nothing may be skipped.
fn environment(accel: Accel) -> Vec<(&'static str, String)> {
    let mut environment = vec![
        ("CI", "1".to_owned()),
        ("HOLDUP_FIXTURES", "prebuilt".to_owned()),
        ("RUST_BACKTRACE", "1".to_owned()),
    ];
    if accel == Accel::Tcg {
        environment.push(("HOLDUP_TEST_SLOWDOWN", SLOWDOWN.to_string()));
    }
    environment
}

/// `vm` below the target folder.
fn work_folder(programs: &Programs) -> Result<PathBuf> {
    let temporary = programs.temporary_folder()?;
    let target = temporary.parent().unwrap_or(paths::root());
    let work = target.join("vm");
    if has_comma_or_space(&work) {
        bail!(
            "QEMU's options take no path with commas or spaces: {}",
            work.display()
        );
    }
    fs::create_dir_all(&work)
        .with_context(|| format!("cannot make the folder {}", work.display()))?;
    Ok(work)
}

fn has_comma_or_space(path: &Path) -> bool {
    path.to_string_lossy().contains([',', ' '])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_have_names() {
        for (text, good) in [
            ("6.1", true),
            ("newest", true),
            ("6", false),
            ("latest", false),
            ("../x", false),
        ] {
            assert_eq!(kernel_name(text).is_ok(), good, "{text}");
        }
    }
}
