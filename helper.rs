//! A plain thread that makes tasks wait: it holds locks, answers late, connects late.
//!
//! Orders go through lock-free channels, so that giving one can never itself block the worker
//! and spoil the truth.

use futures::StreamExt;
use futures::channel::mpsc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// The thread, as tasks see it.
#[derive(Clone)]
pub struct Helper {
    orders: mpsc::UnboundedSender<Job>,
}

/// The helper's side of one appointment.
pub struct Gate {
    ready: Option<oneshot::Sender<Entry>>,
    entered: Arc<AtomicBool>,
}

/// The task's side of one appointment.
pub struct Entry {
    entered: Arc<AtomicBool>,
    helper: Thread,
}

impl Helper {
    pub fn start() -> Helper {
        let (orders, mut inbox) = mpsc::unbounded::<Job>();
        thread::Builder::new()
            .name("helper".into())
            .spawn(move || {
                while let Some(job) = futures::executor::block_on(inbox.next()) {
                    job();
                }
            })
            .expect("a thread can be started");
        Helper { orders }
    }

    /// Runs `job` on the helper and waits, asynchronously, for what it returns.
    pub async fn ask<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, receive) = oneshot::channel();
        self.order(Box::new(move || drop(answer.send(job()))));
        receive.await.expect("the helper answers")
    }

    /// Runs `job` on the helper up to its [`Gate::open`].
    pub async fn hold(&self, job: impl FnOnce(Gate) + Send + 'static) -> Entry {
        let (ready, receive) = oneshot::channel();
        let gate = Gate { ready: Some(ready), entered: Arc::new(AtomicBool::new(false)) };
        self.order(Box::new(move || job(gate)));
        receive.await.expect("the helper opens the gate")
    }

    /// Runs `job` on the helper `length` after the task has said that it is about to wait.
    pub async fn later(&self, length: Duration, job: impl FnOnce() + Send + 'static) -> Entry {
        self.hold(move |gate| {
            gate.open(length);
            job();
        })
        .await
    }

    fn order(&self, job: Job) {
        self.orders.unbounded_send(job).expect("the helper lives");
    }
}

impl Gate {
    /// Tells the task that all is prepared, waits until it enters, and then for `length`.
    pub fn open(mut self, length: Duration) {
        let entry = Entry { entered: self.entered.clone(), helper: thread::current() };
        if let Some(ready) = self.ready.take() {
            drop(ready.send(entry));
        }
        while !self.entered.load(Ordering::Acquire) {
            thread::park();
        }
        thread::sleep(length);
    }
}

impl Entry {
    /// Says that the task is about to wait.
    pub fn enter(self) {
        self.entered.store(true, Ordering::Release);
        self.helper.unpark();
    }
}
