//! Outputs that are written while a recording goes on.

use super::error::Error;
use super::output::{Output, Writer, Written};
use crate::analyze::{choose_from, detail_of, rfc3339};
use crate::recording::{Header, Interval, Tables};
use crate::render::export::ndjson;
use crate::render::{Format, Options};
use crate::report::{Filter, Report};
use crate::units::Timestamp;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use tokio::sync::Notify;

/// Whether an interval is the last one of its recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    No,
    Yes,
}

/// The outputs, shared by who records and who ends the recording.
#[derive(Clone, Debug)]
pub(crate) struct Streams(Rc<RefCell<Inner>>);

#[derive(Debug)]
struct Inner {
    streams: Vec<Stream>,
    options: Options,
    filter: Filter,
    /// The first instant of the recording, once anything came of it.
    start: Option<Timestamp>,
    /// Told when whoever read standard output has gone.
    reader_left: Rc<Notify>,
}

#[derive(Debug)]
struct Stream {
    writer: Writer,
    /// Why it is not written to any more.
    failure: Option<io::Error>,
}

impl Stream {
    fn write(&mut self, what: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) {
        if self.failure.is_none() {
            let out = &mut self.writer;
            let flushed = what(out).and_then(|()| io::Write::flush(out));
            self.failure = flushed.and_then(|()| self.writer.publish()).err();
        }
    }

    /// Whether it goes to standard output, and its reader left (`holdup … | head`).
    fn reader_left(&self) -> bool {
        let failure = self.failure.as_ref().map(io::Error::kind);
        failure == Some(io::ErrorKind::BrokenPipe) && self.writer.name().is_none()
    }
}

impl Streams {
    /// Takes those of `outputs` that are written while a recording goes on.
    pub(crate) fn take(outputs: &mut Vec<Output>, options: &Options, filter: &Filter) -> Streams {
        let is_stream = |output: &mut Output| output.format() == Format::Ndjson;
        let streams = outputs.extract_if(.., is_stream).map(|output| Stream {
            writer: output.into_writer(),
            failure: None,
        });
        Streams(Rc::new(RefCell::new(Inner {
            streams: streams.collect(),
            options: options.clone(),
            filter: filter.clone(),
            start: None,
            reader_left: Rc::default(),
        })))
    }

    /// Whether anything is to be written.
    pub(crate) fn are_none(&self) -> bool {
        self.0.borrow().streams.is_empty()
    }

    /// Done when whoever read standard output has gone, and none of these goes anywhere else.
    pub(crate) async fn unread(&self) {
        let reader_left = Rc::clone(&self.0.borrow().reader_left);
        reader_left.notified().await;
    }

    /// Writes what happened in an interval; at the end also what had not ended then.
    pub(crate) fn write(&self, header: &Header, tables: &Tables, interval: &Interval, last: Last) {
        let mut inner = self.0.borrow_mut();
        let Inner {
            streams,
            options,
            filter,
            start,
            reader_left,
        } = &mut *inner;
        if streams.is_empty() {
            return;
        }
        let is_first = start.is_none();
        let start = *start.get_or_insert(header.start);
        let mut detail = detail_of(tables, interval);
        if last == Last::No {
            detail.open.clear();
        }
        let filter = (!filter.is_all()).then_some(&*filter);
        if let Some(filter) = filter {
            choose_from(&mut detail, filter);
        }
        for stream in streams.iter_mut() {
            stream.write(|out| {
                if is_first {
                    let started_at = rfc3339(header.started_at);
                    let who = (&header.tool, &header.host, started_at.as_str());
                    ndjson::begin(who, (header.min_block, header.long_poll), filter, out)?;
                }
                ndjson::singles(&detail, start, options, out)
            });
        }
        if streams.iter().all(Stream::reader_left) {
            reader_left.notify_one();
        }
    }

    /// Writes the last line, and says what became of the outputs.
    pub(crate) fn finish(self, report: &Report) -> Written {
        let mut written = Written::default();
        for mut stream in self.0.borrow_mut().streams.drain(..) {
            stream.write(|out| ndjson::end(report, out));
            let (name, reader_left) = (stream.writer.name(), stream.reader_left());
            let ended = match stream.failure {
                Some(failure) => Err(failure),
                None => stream.writer.commit(),
            };
            match ended {
                Ok(file) => written.files.extend(file),
                Err(_) if reader_left => {}
                Err(error) => {
                    let name = name.unwrap_or_else(|| "to standard output".to_owned());
                    let failure = Error::new(format!("cannot write {name}")).because(error);
                    written.failures.push(failure);
                }
            }
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::Template;
    use super::super::output;
    use super::super::settings::{Destination, OutputSpec};
    use super::*;
    use crate::recording::{Host, Tool};
    use crate::units::{Nanos, Pid};
    use std::time::SystemTime;

    fn header() -> Header {
        Header {
            tool: Tool {
                name: "holdup".into(),
                version: "0".into(),
            },
            host: Host {
                kernel: "6".into(),
                cpus: 1,
            },
            started_at: 0.0,
            start: Timestamp(10),
            min_block: Nanos(1),
            long_poll: Nanos(2),
            sampling: None,
            calls_measured: false,
            panics_counted: false,
        }
    }

    #[test]
    fn lines_are_there_while_the_recording_goes_on() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("a.ndjson");
        let spec = |path: &std::path::Path, format| OutputSpec {
            destination: Destination::File(Template::parse(path.as_os_str()).expect("a name")),
            format,
        };
        let other = spec(&dir.path().join("a.json"), Format::Json);
        let specs = [spec(&path, Format::Ndjson), other];
        let outputs = output::prepare(&specs, Pid(1), SystemTime::UNIX_EPOCH, false, None);
        let mut outputs = outputs.expect("prepares");
        let streams = Streams::take(&mut outputs, &Options::default(), &Filter::default());
        assert_eq!(outputs.len(), 1, "the other is written at the end");
        assert!(!streams.are_none());
        let interval = Interval::default();
        assert!(!path.exists(), "nothing is there before there is a line");
        streams.write(&header(), &Tables::default(), &interval, Last::No);
        let first = std::fs::read_to_string(&path).expect("it has its name at once");
        assert!(first.starts_with("{\"type\":\"recording\""), "{first}");
        streams.write(&header(), &Tables::default(), &interval, Last::Yes);
        let recording = crate::recording::Recording {
            header: header(),
            tables: Tables::default(),
            intervals: vec![interval],
        };
        let written = streams.finish(&crate::analyze::build(&recording));
        assert!(written.failures.is_empty());
        assert_eq!(written.files, [path.display().to_string()]);
        let text = std::fs::read_to_string(&path).expect("reads");
        let types: Vec<String> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
            .map(|line| line["type"].as_str().expect("a type").to_owned())
            .collect();
        assert_eq!(types, ["recording", "end"]);
    }
}
