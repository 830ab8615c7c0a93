//! The recorder that uses BPF.

use super::engine::{Recorder, Sink};
use super::error::{Error, Result};
use super::exit::Exit;
use super::observer::{Observer, Ring};
use super::reports::Reports;
use super::stream::{Last, Streams};
use crate::analyze::Analyzer;
use crate::collect::{self, Collector};
use crate::host::Features;
use crate::host::privileges::{self, Keep};
use crate::process::Target;
use crate::recording::{Header, Interval, Tables};
use crate::report::{self, Filter};
use crate::runtime::tokio::is_of_a_worker;
use std::sync::Arc;

/// A recording by the kernel programs, summed up interval by interval.
#[derive(Debug)]
pub(crate) struct Live {
    collector: Collector,
    analyzer: Analyzer,
    streams: Option<Streams>,
    keep: report::Keep,
    filter: Filter,
    observer: Option<Observer>,
    /// Where the report is to be of the last intervals alone.
    ring: Option<Ring>,
}

/// An error of the rooms below, in the words of the command line.
pub(super) fn failed(what: &str) -> impl Fn(anyhow::Error) -> Error {
    move |error| error.context(what.to_owned()).into()
}

impl Recorder for Live {
    fn start(
        targets: &[Arc<Target>],
        features: &Features,
        options: &collect::Options,
        keep: Keep,
    ) -> Result<Live> {
        let collector = Collector::attach(targets, &features.btf, options.clone())
            .map_err(failed("cannot begin to record"))?;
        // A command may yet execute the program that is meant, as a shell does, or its child.
        let may_come = options.launched || options.follow;
        match targets.first() {
            Some(target)
                if !may_come
                    && !collector.sees_tokio()
                    && !targets.iter().any(|target| has_workers_names(target)) =>
            {
                return Err(no_runtime(target));
            }
            _ => {}
        }
        privileges::drop_to(keep)
            .map_err(|error| Error::new("cannot give up privileges").because(error))?;
        let analyzer = Analyzer::new(&collector.header());
        Ok(Live {
            collector,
            analyzer,
            streams: None,
            keep: report::Keep::NOTHING,
            filter: Filter::default(),
            observer: None,
            ring: None,
        })
    }

    fn keep(&mut self, keep: report::Keep) {
        self.keep = keep;
        self.analyzer.keep(keep);
    }

    fn filter(&mut self, filter: &Filter) {
        self.filter = filter.clone();
        self.analyzer.keep_for(filter);
    }

    fn observe(&mut self, observer: Observer) {
        self.ring = observer.ring();
        self.observer = Some(observer);
    }

    fn stream(&mut self, streams: Streams) {
        self.streams = Some(streams);
    }

    fn header(&self) -> Header {
        self.collector.header()
    }

    async fn run(
        &mut self,
        stop: impl Future<Output = ()>,
        mut sink: Option<&mut dyn Sink>,
    ) -> Result<()> {
        let Live {
            collector,
            analyzer,
            streams,
            observer,
            ring,
            keep,
            filter,
        } = self;
        let header = collector.header();
        // Whoever is killed gives no names any more.
        collector.name_kernel_frames_at_once(sink.is_some());
        if let Some(observer) = observer {
            collector.look_where(observer.report_flag());
        }
        collector
            .run(stop, |tables, interval| {
                if let Some(streams) = streams {
                    streams.write(&header, tables, &interval, Last::No);
                }
                if let Some(observer) = observer {
                    observer.see(tables, &interval);
                }
                if let Some(ring) = ring {
                    ring.push(interval.clone());
                }
                match &mut sink {
                    Some(sink) => {
                        analyzer.merge(tables, &interval);
                        sink.take(tables, interval);
                    }
                    None => analyzer.add(tables, interval),
                }
                if let Some(observer) = observer {
                    observer.count(tables, analyzer);
                    if observer.wants_report() {
                        let of_ring = ring
                            .as_ref()
                            .map(|ring| of_ring(ring, &header, (*keep, filter), tables));
                        let analyzer = of_ring.as_ref().unwrap_or(analyzer);
                        let reports = Reports::made(analyzer, &header, tables, filter);
                        observer.take_report(reports.into_shown());
                    }
                }
                Ok(())
            })
            .await
            .map_err(failed("cannot go on recording"))
    }

    fn finish(mut self, ended: Option<String>, sink: Option<&mut dyn Sink>) -> Result<Reports> {
        let (header, tables, last) = self
            .collector
            .finish(ended)
            .map_err(failed("cannot finish the recording"))?;
        if let Some(streams) = &self.streams {
            streams.write(&header, &tables, &last, Last::Yes);
        }
        if let Some(ring) = &self.ring {
            self.analyzer = of_ring(ring, &header, (self.keep, &self.filter), &tables);
        }
        self.analyzer.merge(&tables, &last);
        if let Some(sink) = sink {
            sink.take_last(&tables, last);
        }
        Ok(Reports::made(
            &self.analyzer,
            &header,
            &tables,
            &self.filter,
        ))
    }
}

/// The sums of the last intervals alone.
fn of_ring(
    ring: &Ring,
    header: &Header,
    (keep, filter): (report::Keep, &Filter),
    tables: &Tables,
) -> Analyzer {
    let mut analyzer = Analyzer::new(header);
    analyzer.keep(keep);
    analyzer.keep_for(filter);
    for interval in ring.intervals() {
        analyzer.merge(tables, interval);
    }
    analyzer
}

/// A recording that goes on, as it is at the end of an interval.
pub(super) struct Moment<'a> {
    pub(super) header: &'a Header,
    pub(super) tables: &'a Tables,
    /// Has everything so far.
    pub(super) analyzer: &'a Analyzer,
}

impl Live {
    /// As [`Recorder::run`], until every process that is recorded has ended. `each` takes every
    /// interval.
    ///
    /// # Errors
    /// Where recording cannot go on.
    pub(super) async fn watch(
        &mut self,
        mut each: impl FnMut(&Moment<'_>, Interval),
    ) -> Result<()> {
        let Live {
            collector,
            analyzer,
            ..
        } = self;
        let header = collector.header();
        // Rules need their names.
        collector.name_kernel_frames_at_once(true);
        collector
            .run(std::future::pending(), |tables, interval| {
                analyzer.merge(tables, &interval);
                let moment = Moment {
                    header: &header,
                    tables,
                    analyzer,
                };
                each(&moment, interval);
                Ok(())
            })
            .await
            .map_err(failed("cannot go on recording"))
    }
}

/// Whether threads look like tokio's by their names: a sign of it where its code shows none.
pub(super) fn has_workers_names(target: &Target) -> bool {
    let threads = target.threads().unwrap_or_default();
    threads.iter().any(|thread| is_of_a_worker(&thread.name))
}

/// What is said where there is no sign of tokio in a target.
pub(super) fn no_runtime(target: &Target) -> Error {
    Error::new(format!(
        "no sign of tokio in {} (pid {}): neither in the program, nor in its libraries, nor in the \
         names of its threads",
        target.exe_name(),
        target.pid()
    ))
    .exit(Exit::NoRuntime)
}
