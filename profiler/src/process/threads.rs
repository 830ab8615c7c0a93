//! The threads of the target and their names.

use super::comm::parse_comm;
use super::proc_dir::is_gone;
use super::target::Target;
use crate::units::Tid;
use std::io;

/// A thread with the name it had when we looked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadName {
    /// The thread.
    pub tid: Tid,
    /// Its name, raw but for bytes that are no UTF-8.
    pub name: String,
}

impl Target {
    /// Every thread that lives now. A thread that ends while we look is left out.
    ///
    /// # Errors
    /// Where the process is gone, or may not be looked into.
    pub fn threads(&self) -> io::Result<Vec<ThreadName>> {
        let mut threads = Vec::new();
        for tid in self.proc_dir().list_numbers("task")? {
            match self.proc_dir().read(&format!("task/{tid}/comm")) {
                Ok(comm) => threads.push(ThreadName {
                    tid: Tid(tid),
                    name: parse_comm(&comm),
                }),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(threads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Pid;

    #[test]
    fn own_threads_are_listed_and_ended_ones_are_no_error() {
        let target = Target::open(Pid(std::process::id())).expect("self");
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let named = std::thread::Builder::new()
            .name("holdup-t1".into())
            .spawn(move || stopped.recv())
            .expect("spawn");
        // The name is set by the new thread itself.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while !target
            .threads()
            .expect("threads")
            .iter()
            .any(|thread| thread.name == "holdup-t1")
        {
            assert!(
                std::time::Instant::now() < deadline,
                "the thread never showed"
            );
            std::thread::yield_now();
        }
        drop(stop);
        let _ = named.join();
        let churn = std::thread::spawn(|| {
            for _ in 0..200 {
                let _ = std::thread::spawn(|| {}).join();
            }
        });
        while !churn.is_finished() {
            target.threads().expect("threads come and go");
        }
    }
}
