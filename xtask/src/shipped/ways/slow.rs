//! Programs that open files of a slow file system.

use super::super::fetch;
use super::super::list::{Check, Expect};
use super::super::outcome::Checked;
use super::super::slow_files::SlowFiles;
use super::{Subject, Truth, judge};
use anyhow::{Context as _, Result, bail};
use children::Child;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

/// How long each open takes.
const DELAY: Duration = Duration::from_millis(150);
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn check(subject: &Subject<'_>) -> Result<Checked> {
    let program = match subject.package.host {
        Some(host) => fetch::host(host)?,
        None => {
            fetch::make_executable(&subject.binary)?;
            subject.binary.clone()
        }
    };
    match &subject.package.check {
        Check::SlowFiles {
            arguments,
            files,
            quick_files,
            expect,
            at_least,
        } => {
            let Some(mount) = mount(files)? else {
                return Ok(Checked::Skipped("no FUSE here".to_owned()));
            };
            let quick = quick(quick_files)?;
            let mut arguments = fill(arguments, mount.path(), quick.path(), 0);
            let binary = subject.binary.to_string_lossy();
            for argument in &mut arguments {
                *argument = argument.replace("{binary}", &binary);
            }
            let status = subject.recorder.launch(&program, &arguments)?;
            if !status.success() {
                bail!("holdup ended with {status}");
            }
            told(subject, &mount, *expect, *at_least)
        }
        Check::Serve { .. } => serve(subject, &program),
        _ => bail!("not a check by slow files"),
    }
}

fn serve(subject: &Subject<'_>, program: &Path) -> Result<Checked> {
    let Check::Serve {
        arguments,
        files,
        quick_files,
        get,
        rounds,
        expect,
    } = &subject.package.check
    else {
        bail!("not a server");
    };
    let Some(mount) = mount(files)? else {
        return Ok(Checked::Skipped("no FUSE here".to_owned()));
    };
    // Free a moment ago; who else should take it?
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let quick = quick(quick_files)?;
    let mut command = crate::process::detached(program);
    command
        .args(fill(arguments, mount.path(), quick.path(), port))
        // For what Python loads.
        .env("PYTHONPATH", &subject.folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let server = Child::start(&subject.package.name, &mut command, None)?;
    let started = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if started.elapsed() > PATIENCE {
            bail!("it does not listen on port {port}");
        }
        thread::sleep(Duration::from_millis(50));
    }
    let before = mount.opens().len();
    let recording = subject.recorder.attach(server.id())?;
    for _ in 0..*rounds {
        ask(port, get)?;
    }
    let report = recording.end()?;
    drop(server);
    let opens = mount.opens();
    let opens = opens.get(before..).unwrap_or_default();
    let without_main = subject.package.host.is_some();
    let truth = truth(opens, *expect, *rounds, without_main)?;
    Ok(Checked::Seen(judge(subject.package, &report, truth, WHAT)))
}

const WHAT: &str = "slow opens of files";

fn told(
    subject: &Subject<'_>,
    mount: &SlowFiles,
    expect: Expect,
    at_least: usize,
) -> Result<Checked> {
    let truth = truth(
        &mount.opens(),
        expect,
        at_least,
        subject.package.host.is_some(),
    )?;
    let report = subject.recorder.read()?;
    Ok(Checked::Seen(judge(subject.package, &report, truth, WHAT)))
}

fn truth(
    opens: &[Duration],
    state: Expect,
    at_least: usize,
    without_main: bool,
) -> Result<Truth<'static>> {
    if opens.len() < at_least {
        bail!("it opened only {} slow files", opens.len());
    }
    Ok(Truth {
        state,
        calls: &["open", "openat"],
        count: opens.len(),
        total: opens.iter().sum(),
        longest: opens.iter().copied().max().unwrap_or_default(),
        single: true,
        without_main,
    })
}

/// None where this machine has no FUSE.
fn mount(files: &BTreeMap<String, String>) -> Result<Option<SlowFiles>> {
    if !Path::new("/dev/fuse").exists() {
        return Ok(None);
    }
    SlowFiles::mount(files, DELAY).map(Some)
}

fn quick(files: &BTreeMap<String, String>) -> Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("quick-").tempdir()?;
    for (path, text) in files {
        fs::write(folder.path().join(path), text)?;
    }
    Ok(folder)
}

fn fill(arguments: &[String], slow: &Path, quick: &Path, port: u16) -> Vec<String> {
    let (slow, quick) = (slow.to_string_lossy(), quick.to_string_lossy());
    let filled = arguments.iter().map(|argument| {
        argument
            .replace("{slow}", &slow)
            .replace("{quick}", &quick)
            .replace("{port}", &port.to_string())
    });
    filled.collect()
}

/// One request; the answer is read to its end.
fn ask(port: u16, path: &str) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.lines().next().context("no answer")?;
    if !status.contains(" 200 ") {
        bail!("GET {path}: {status}");
    }
    Ok(())
}
