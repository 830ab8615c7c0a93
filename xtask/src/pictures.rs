//! `cargo xtask pictures`: the README's pictures, drawn from a recording of the demo.

use crate::artifacts::Artifacts;
use crate::demo::{Service, start_warm_load};
use crate::{paths, process};
use anyhow::{Context as _, Result, bail};
use children::{Child, interrupt};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Of all pictures together, in bytes: they come with each copy of the repository.
const MAX_SIZE: u64 = 300_000;
/// What the browser shows, in pixels.
const WINDOW: &str = "1200,1000";
/// For a recording to begin and to be written, and for a browser to draw.
const SLACK: Duration = Duration::from_secs(60);

/// What `cargo xtask pictures` takes.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// How long to record.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,

    /// Take the programs from this folder instead of building them.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,

    /// The folder for the pictures.
    #[arg(long, value_name = "DIR", default_value = "docs/pictures")]
    output: PathBuf,
}

/// Records the demo with its mistakes, and draws the page for browsers (`page.png`, by Debian's chromium)
/// and the flamegraph (`blocked.svg`).
///
/// # Errors
/// This is not root, there is no chromium, a program cannot be built or started, the pictures are too
/// large, or Ctrl-C came.
pub fn run(args: &Args) -> Result<()> {
    interrupt::watch()?;
    process::output(Command::new("chromium").arg("--version"))
        .context("apt-get install chromium")?;
    let names = ["holdup", "claims_api", "claims_load"];
    let artifacts = match &args.programs {
        Some(dir) => Artifacts::in_folder(dir, &names)?,
        None => Artifacts::build_release(&["profiler", "claims_api"])?,
    };
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let page = dir.path().join("demo.html");
    let output = paths::root().join(&args.output);
    std::fs::create_dir_all(&output)
        .with_context(|| format!("cannot make the folder {}", output.display()))?;
    record(
        &artifacts,
        args.seconds,
        &[&page, &output.join("blocked.svg")],
    )?;
    photograph(&page, &output.join("page.png"))?;
    match size(&output)? {
        size if size > MAX_SIZE => bail!("the pictures have {size} bytes, more than {MAX_SIZE}"),
        size => eprintln!("pictures: {size} bytes in {}", output.display()),
    }
    Ok(())
}

/// Records the demo under load into files.
fn record(artifacts: &Artifacts, seconds: u64, files: &[&Path]) -> Result<()> {
    let service = Service::start(artifacts, &[])?;
    let load = start_warm_load(artifacts, &service.addr, "mistakes")?;
    let mut record = Command::new(artifacts.executable("holdup")?);
    record
        .args(["record", "--quiet", "--force", "--brief"])
        .args([
            "-p",
            &service.child.id().to_string(),
            "-d",
            &format!("{seconds}s"),
        ]);
    for file in files {
        record.arg("-o").arg(file);
    }
    let mut recording = Child::start_in_foreground("holdup", &mut record)?;
    let status = recording.wait(Duration::from_secs(seconds) + SLACK)?;
    load.signal(Signal::TERM)?;
    match status.success() {
        true => Ok(()),
        false => bail!("holdup ended with {status}; recording needs root"),
    }
}

/// What a browser shows of a page.
fn photograph(page: &Path, picture: &Path) -> Result<()> {
    let mut command = Command::new("chromium");
    command
        // Its sandbox does not run as root; the page is our own.
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .arg(format!("--window-size={WINDOW}"))
        .arg(format!("--screenshot={}", picture.display()))
        .arg(format!("file://{}", page.display()))
        .stderr(std::process::Stdio::null());
    let mut browser = Child::start_in_foreground("chromium", &mut command)?;
    browser.wait(SLACK)?;
    match picture.is_file() {
        true => Ok(()),
        false => bail!("chromium left no picture"),
    }
}

/// Of all files of a folder, in bytes.
fn size(folder: &Path) -> Result<u64> {
    let files =
        std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let sizes = files.map(|file| Ok(file?.metadata()?.len()));
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pictures of a document, by the parentheses after their descriptions.
    fn linked(text: &str) -> Vec<&str> {
        let after = text.split("](docs/pictures/").skip(1);
        after.filter_map(|rest| rest.split(')').next()).collect()
    }

    #[test]
    fn the_pictures_of_the_readme_are_there_and_small() -> Result<()> {
        let readme = std::fs::read_to_string(paths::root().join("README.md"))?;
        let linked = linked(&readme);
        assert!(linked.contains(&"page.png"), "{linked:?}");
        let folder = paths::root().join("docs/pictures");
        for name in linked {
            assert!(folder.join(name).is_file(), "{name}");
        }
        assert!(size(&folder)? <= MAX_SIZE);
        Ok(())
    }
}
