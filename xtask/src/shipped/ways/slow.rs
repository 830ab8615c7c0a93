//! Programs that open files of a slow file system.

use super::super::fetch;
use super::super::list::{Check, Expect};
use super::super::outcome::Checked;
use super::super::report::Report;
use super::super::slow_files::Open;
use super::places::Places;
use super::{Subject, Truth, judge};
use anyhow::{Context as _, Result, bail};
use children::Child;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

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
            besides,
        } => {
            let Some(places) = Places::new(subject, files, quick_files)? else {
                return Ok(Checked::Skipped("no FUSE here".to_owned()));
            };
            let arguments = places.fill_all(arguments);
            let status = subject.recorder.launch(&program, &arguments)?;
            if !status.success() {
                bail!("holdup ended with {status}");
            }
            let opens = places.slow.opens();
            let mut truth = truth(subject, &opens, *expect, *at_least)?;
            truth.besides = besides.as_ref();
            told(subject, &subject.recorder.read()?, &truth)
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
    let Some(places) = Places::new(subject, files, quick_files)? else {
        return Ok(Checked::Skipped("no FUSE here".to_owned()));
    };
    let mut command = crate::process::detached(program);
    command
        .args(places.fill_all(arguments))
        // For what Python loads.
        .env("PYTHONPATH", &subject.folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let server = Child::start(&subject.package.name, &mut command, None)?;
    await_port(places.port)?;
    let before = places.slow.opens().len();
    let recording = subject.recorder.attach(server.id())?;
    for _ in 0..*rounds {
        ask(places.port, get)?;
    }
    let report = recording.end()?;
    drop(server);
    let opens = places.slow.opens();
    let opens = opens.get(before..).unwrap_or_default();
    told(subject, &report, &truth(subject, opens, *expect, *rounds)?)
}

/// Until somebody listens on the port.
pub(super) fn await_port(port: u16) -> Result<()> {
    let started = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if started.elapsed() > PATIENCE {
            bail!("it does not listen on port {port}");
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

pub(super) fn told(subject: &Subject<'_>, report: &Report, truth: &Truth<'_>) -> Result<Checked> {
    let what = "slow opens of files";
    Ok(Checked::Seen(judge(subject.package, report, truth, what)))
}

pub(super) fn truth(
    subject: &Subject<'_>,
    opens: &[Open],
    state: Expect,
    at_least: usize,
) -> Result<Truth<'static>> {
    if opens.len() < at_least {
        bail!("it opened only {} slow files", opens.len());
    }
    Ok(Truth {
        state,
        calls: &["open", "openat"],
        waits: opens.iter().map(|open| open.time.clone()).collect(),
        single: true,
        without_main: subject.package.host.is_some(),
        besides: None,
    })
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
