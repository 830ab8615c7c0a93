//! Servers that open slow files for a client of their own.

use super::super::fetch;
use super::super::list::Check;
use super::super::outcome::Checked;
use super::places::{self, Places};
use super::{Subject, slow};
use crate::process;
use anyhow::{Result, bail};
use children::Child;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long the server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a client may take.
const ROUND: Duration = Duration::from_secs(60);

pub(super) fn check(subject: &Subject<'_>) -> Result<Checked> {
    let Check::Daemon {
        arguments,
        environment,
        server_environment,
        files,
        quick_files,
        ask,
        rounds,
        expect,
        threads,
    } = &subject.package.check
    else {
        bail!("not a server with a client");
    };
    fetch::make_executable(&subject.binary)?;
    let Some(places) = Places::new(subject, files, quick_files)? else {
        return Ok(Checked::Skipped("no FUSE here".to_owned()));
    };
    let needs = |place: &str| {
        let mut texts = arguments.iter().chain(ask).chain(environment.values());
        texts.any(|text| text.contains(place))
    };
    let rustc = match needs("{rustc}") {
        true => places::rustc()?,
        false => String::new(),
    };
    let command = |arguments: &[String]| {
        let arguments = places.fill_all(arguments);
        let mut command = process::detached(&subject.binary);
        command
            .args(arguments.iter().map(|text| text.replace("{rustc}", &rustc)))
            // Of the user's own server it knows nothing.
            .env("HOME", places.quick.path())
            .env("XDG_CACHE_HOME", places.quick.path())
            .current_dir(places.quick.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        for (name, value) in environment {
            command.env(name, places.fill(value));
        }
        command
    };
    let mut server = command(arguments);
    server.envs(server_environment);
    let server = Child::start(&subject.package.name, &mut server, None)?;
    // A client whose server is not there may start one of its own.
    if needs("{port}") {
        slow::await_port(places.port)?;
    }
    let client = || -> Result<bool> { run(&mut command(ask)) };
    let started = Instant::now();
    // The first one loads and starts things.
    while !client()? {
        if started.elapsed() > PATIENCE {
            bail!("its client fails");
        }
        thread::sleep(Duration::from_millis(200));
    }
    let before = places.slow.opens().len();
    let recording = subject.recorder.attach(server.id())?;
    for _ in 0..*rounds {
        if !client()? {
            bail!("its client fails");
        }
    }
    let report = recording.end()?;
    let process = server.id();
    drop(server);
    let mut opens = places.slow.opens().split_off(before);
    // Its client, and what it starts, open files too.
    opens.retain(|open| {
        let thread = threads.as_ref().is_none_or(|name| *name == open.thread);
        thread && open.process == process
    });
    let truth = slow::truth(subject, &opens, *expect, *rounds)?;
    slow::told(subject, &report, &truth)
}

/// Whether a client ended well.
fn run(client: &mut Command) -> Result<bool> {
    Ok(Child::start("the client", client, None)?
        .wait(ROUND)?
        .success())
}
