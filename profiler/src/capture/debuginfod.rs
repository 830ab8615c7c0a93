//! Debug files from debuginfod servers, by build ID.
//!
//! They are kept where elfutils keeps them, so that `gdb` and its like find them as well, and the other way
//! round. What came is only used if it has the build ID that was asked for.

use super::build_id::build_id;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A server that does not even take a connection is not waited for as long as a file is.
const CONNECT: Duration = Duration::from_secs(10);

/// Of what curl says, in bytes.
const SAID: u64 = 4096;

/// Servers, and how they are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Debuginfod {
    /// Where servers are: `http://` or `https://`.
    pub servers: Vec<String>,
    /// The folder in which files are kept.
    pub cache: PathBuf,
    /// How long one file may take to come.
    pub timeout: Duration,
    /// The largest file that is taken, in bytes.
    pub max_size: u64,
}

/// A run of questions to the servers.
#[derive(Debug)]
pub(super) struct Questions<'a> {
    servers: &'a Debuginfod,
    agent: ureq::Agent,
    /// Those that failed otherwise than by not having a file: they are not asked again, so that what
    /// they take does not add up.
    failed: RefCell<BTreeSet<String>>,
}

impl<'a> Questions<'a> {
    pub(super) fn new(servers: &'a Debuginfod) -> Questions<'a> {
        let config = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT.min(servers.timeout)))
            .timeout_global(Some(servers.timeout))
            .http_status_as_error(false)
            .user_agent(concat!("holdup/", env!("CARGO_PKG_VERSION")))
            .build();
        Questions {
            servers,
            agent: ureq::Agent::new_with_config(config),
            failed: RefCell::default(),
        }
    }

    /// The debug file of what has this build ID, from the cache or from a server. What went wrong is added
    /// to `remarks`.
    pub(super) fn find(&self, wanted: &str, remarks: &mut Vec<String>) -> Option<PathBuf> {
        // It becomes a part of paths and addresses, and may come from anywhere.
        if wanted.len() < 2 || !wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let folder = self.servers.cache.join(wanted);
        let kept = folder.join("debuginfo");
        if build_id(&kept).is_some_and(|own| own == wanted) {
            return Some(kept);
        }
        for server in &self.servers.servers {
            if self.failed.borrow().contains(server) {
                continue;
            }
            let url = format!(
                "{}/buildid/{wanted}/debuginfo",
                server.trim_end_matches('/')
            );
            match self.fetch(&url, &folder, &kept, wanted) {
                Ok(true) => return Some(kept),
                Ok(false) => {}
                Err(error) => {
                    remarks.push(format!("cannot ask {server}: {error}"));
                    self.failed.borrow_mut().insert(server.clone());
                }
            }
        }
        None
    }

    /// Whether the file came. It has its place only once it is whole.
    fn fetch(&self, url: &str, folder: &Path, kept: &Path, wanted: &str) -> io::Result<bool> {
        let Some(mut body) = self.body(url)? else {
            return Ok(false);
        };
        fs::create_dir_all(folder)?;
        let partial = folder.join(format!(".holdup-{}", std::process::id()));
        let _ = fs::remove_file(&partial);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&partial)?;
        let came = copy(&mut body, file, self.servers.max_size);
        let came = came.and_then(|()| match body.came_whole()? {
            false => Ok(false),
            true if build_id(&partial).is_some_and(|own| own == wanted) => {
                fs::rename(&partial, kept).map(|()| true)
            }
            true => Err(io::Error::other("it sent a file of another build")),
        });
        if !matches!(came, Ok(true)) {
            let _ = fs::remove_file(&partial);
        }
        came
    }

    /// What the server sends; none where it has no such file.
    fn body(&self, url: &str) -> io::Result<Option<Body>> {
        if url.starts_with("https://") {
            return self.by_curl(url).map(Some);
        }
        let response = self.agent.get(url).call().map_err(io::Error::other)?;
        match response.status().as_u16() {
            200 => Ok(Some(Body::Http(Box::new(
                response.into_body().into_reader(),
            )))),
            404 => Ok(None),
            status => Err(io::Error::other(format!("it answered {status}"))),
        }
    }

    /// The system's curl knows the certificates and the proxy that this machine trusts; a second
    /// implementation of TLS in a profiler would not.
    fn by_curl(&self, url: &str) -> io::Result<Body> {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--fail",
            "--location",
            "--proto",
            "=https",
        ])
        .args([
            "--max-time",
            &self.servers.timeout.as_secs().max(1).to_string(),
        ])
        .args([
            "--max-filesize",
            &self.servers.max_size.to_string(),
            "--",
            url,
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
        match curl.spawn() {
            Ok(child) => Ok(Body::Curl(child)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(io::Error::other("https needs curl, which is not installed"))
            }
            Err(error) => Err(error),
        }
    }
}

/// What comes from a server.
enum Body {
    Http(Box<dyn Read>),
    Curl(Child),
}

impl Body {
    /// Whether all of it came, and there was a file at all.
    fn came_whole(&mut self) -> io::Result<bool> {
        let Body::Curl(child) = self else {
            return Ok(true);
        };
        let mut said = String::new();
        if let Some(stderr) = &mut child.stderr {
            stderr.take(SAID).read_to_string(&mut said)?;
        }
        // curl(1): 22 is an HTTP error, with --fail.
        match child.wait()?.code() {
            Some(0) => Ok(true),
            Some(22) if said.contains("404") => Ok(false),
            _ => Err(io::Error::other(said.trim().to_owned())),
        }
    }
}

impl Read for Body {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Body::Http(body) => body.read(bytes),
            Body::Curl(child) => match &mut child.stdout {
                Some(stdout) => stdout.read(bytes),
                None => Ok(0),
            },
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // One that sends too much is not listened to any longer, and leaves no process behind.
        if let Body::Curl(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Copies at most `max` bytes; more is an error.
fn copy(from: &mut impl Read, mut to: File, max: u64) -> io::Result<()> {
    let copied = io::copy(&mut from.take(max.saturating_add(1)), &mut to)?;
    to.flush()?;
    match copied > max {
        false => Ok(()),
        true => Err(io::Error::other(format!(
            "the file has more than {max} bytes"
        ))),
    }
}

#[cfg(test)]
#[path = "debuginfod_tests.rs"]
mod tests;
