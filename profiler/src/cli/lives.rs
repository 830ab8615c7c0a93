//! Which processes come and go while they are recorded.

use crate::recording::Process;
use crate::units::Pid;

/// What was told of each process, in the order of their ids in the recording.
#[derive(Debug, Default)]
pub(super) struct Lives {
    /// Those with which the recording began, which are no news.
    first: usize,
    /// Whether the end of each was told.
    ended: Vec<bool>,
    /// Whose ends were told.
    told: Vec<Pid>,
}

impl Lives {
    pub(super) fn new(first: usize) -> Lives {
        Lives {
            first,
            ..Lives::default()
        }
    }

    /// What is new since the last time, in lines. Processes that others forked are not told of.
    pub(super) fn see(&mut self, processes: &[Process]) -> Vec<String> {
        let mut lines = Vec::new();
        for (number, process) in processes.iter().enumerate() {
            let is_told = process.parent.is_none();
            let (name, pid) = (process.exe_name(), process.pid);
            if number >= self.ended.len() {
                self.ended.push(false);
                if number >= self.first && is_told {
                    lines.push(format!("{name} (pid {pid}) joins the recording"));
                }
            }
            let Some(ended) = self.ended.get_mut(number).filter(|ended| !**ended) else {
                continue;
            };
            if let Some(how) = &process.ended {
                *ended = true;
                if is_told {
                    self.told.push(pid);
                    lines.push(format!("{name} (pid {pid}) {how}"));
                }
            }
        }
        let all_ended = processes.iter().all(|process| process.ended.is_some());
        if let Some(last) = lines.last_mut().filter(|_| all_ended) {
            last.push_str(": none is left, and the next one joins the recording");
        }
        lines
    }

    /// Whether the end of the process that has this id, or had it last, was told.
    pub(super) fn told_end(&self, pid: Pid) -> bool {
        self.told.contains(&pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, ended: Option<&str>) -> Process {
        Process {
            exe: "/srv/claims".into(),
            ended: ended.map(str::to_owned),
            ..Process::unknown(Pid(pid))
        }
    }

    #[test]
    fn what_comes_and_goes_is_told_once() {
        let mut lives = Lives::new(1);
        let mut all = vec![process(1, None)];
        assert!(lives.see(&all).is_empty(), "with it the recording began");
        all.push(process(2, None));
        let forked = Process {
            parent: Some(Pid(1)),
            ..process(3, Some("exited"))
        };
        all.push(forked);
        assert_eq!(lives.see(&all), ["claims (pid 2) joins the recording"]);
        assert!(lives.see(&all).is_empty());
        all[0].ended = Some("exited".into());
        assert_eq!(lives.see(&all), ["claims (pid 1) exited"]);
        assert!(lives.told_end(Pid(1)) && !lives.told_end(Pid(3)) && !lives.told_end(Pid(2)));
        all[1].ended = Some("killed by SIGKILL".into());
        assert_eq!(
            lives.see(&all),
            [
                "claims (pid 2) killed by SIGKILL: none is left, and the next one joins the recording"
            ]
        );
        all.push(process(4, Some("exited")));
        let lines = lives.see(&all);
        assert_eq!(lines.len(), 2, "{lines:?}");
    }
}
