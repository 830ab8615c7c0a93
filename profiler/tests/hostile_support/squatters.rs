//! More processes of another user's than can be recorded at once, of the name of an honest one.

use super::beside::shell;
use super::fixture::{Running, Variant};
use super::live_recording::Recording;
use libtest_mimic::Failed;
use std::process::Command;
use std::time::{Duration, Instant};

/// Of each name.
const SQUATTERS: u32 = 65;

pub(crate) fn trial() -> Result<(), Failed> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    // No other program's.
    let name = format!("honest-{}", std::process::id());
    let theirs = dir.path().join("theirs");
    std::fs::create_dir(&theirs)?;
    for path in [dir.path(), &theirs] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    let squatter = theirs.join(&name);
    std::fs::copy("/bin/sleep", &squatter)?;
    let honest = dir.path().join(&name);
    std::fs::copy(Variant::DEFAULT.build()?, &honest)?;
    // They come first, by their ids.
    let squatter = squatter.display();
    let each = format!("for i in $(seq {SQUATTERS}); do {squatter} 60 & done; wait");
    let _squatters = shell(&each)?;
    let mut command = Command::new(&honest);
    command.arg("scenarios").arg(dir.path());
    let mut fixture = Running::start(command)?;
    wait_for(&name, SQUATTERS as usize + 1)?;

    let (said, pids) = recorded(&["-n", &name], || fixture.go())?;
    let told = "can be recorded at once: ";
    if !pids.contains(&fixture.pid()) || !said.contains(told) {
        return Err(format!("{} of {pids:?}; {said}", fixture.pid()).into());
    }
    let (said, pids) = recorded(&["-n", &name, "--user", "0"], || Ok(()))?;
    if pids != [fixture.pid()] || said.contains(told) {
        return Err(format!("only root's: {pids:?}; {said}").into());
    }
    Ok(())
}

/// All of them have executed their program.
fn wait_for(name: &str, count: usize) -> Result<(), Failed> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let comms = std::fs::read_dir("/proc")?
            .flatten()
            .filter_map(|entry| std::fs::read_to_string(entry.path().join("comm")).ok());
        match comms.filter(|comm| comm.trim_end() == name).count() {
            found if found >= count => return Ok(()),
            found if Instant::now() > deadline => {
                return Err(format!("{found} processes of {count}").into());
            }
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// What holdup said of a recording, and which processes the report has.
fn recorded(
    target: &[&str],
    go: impl FnOnce() -> Result<(), String>,
) -> Result<(String, Vec<u32>), Failed> {
    let recording = Recording::start(&[&["-d", "1s"], target].concat())?;
    go()?;
    let recorded = recording.end()?;
    let pids = recorded.pids();
    Ok((recorded.said, pids))
}
