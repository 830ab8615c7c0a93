//! Threads that end waits, by number.

use crate::decode::{self, ThreadKey, ThreadName};
use crate::recording::{Waker, WakerId};
use crate::units::{Pid, Tid};
use std::collections::HashMap;

/// The wakers so far.
#[derive(Debug)]
pub(super) struct WakerTable {
    /// By thread and name: a thread may change its name. None is an interrupt.
    ids: HashMap<Option<(ThreadKey, ThreadName)>, WakerId>,
    most: usize,
    left_out: u64,
}

impl WakerTable {
    /// At most `most` are told apart.
    pub(super) fn new(most: usize) -> WakerTable {
        WakerTable {
            ids: HashMap::new(),
            most,
            left_out: 0,
        }
    }

    /// The id of a waker, which `all` has from then on; none where none was seen or there is no
    /// room.
    pub(super) fn id(&mut self, waker: &decode::Waker, all: &mut Vec<Waker>) -> Option<WakerId> {
        let key = match waker {
            decode::Waker::Unseen => return None,
            decode::Waker::Interrupt => None,
            decode::Waker::Thread { thread, name, .. } => Some((*thread, *name)),
        };
        if let Some(id) = self.ids.get(&key) {
            return Some(*id);
        }
        let id = u32::try_from(all.len()).ok().map(WakerId);
        let Some(id) = id.filter(|_| all.len() < self.most) else {
            self.left_out += 1;
            return None;
        };
        all.push(match key {
            None => Waker {
                pid: Pid(0),
                tid: Tid(0),
                name: "interrupt".into(),
            },
            Some((thread, name)) => Waker {
                pid: thread.pid,
                tid: thread.tid,
                name: name.to_string().into(),
            },
        });
        self.ids.insert(key, id);
        Some(id)
    }

    /// Waits whose waker found no room.
    pub(super) const fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waker_has_one_id_and_the_number_of_ids_is_bounded() {
        let waker = |tid| decode::Waker::Thread {
            thread: ThreadKey {
                pid: Pid(1),
                tid: Tid(tid),
            },
            name: ThreadName::new(*b"worker\0\0\0\0\0\0\0\0\0\0"),
            stack: None,
        };
        let (mut wakers, mut all) = (WakerTable::new(2), Vec::new());
        assert_eq!(wakers.id(&decode::Waker::Unseen, &mut all), None);
        let first = wakers.id(&waker(7), &mut all);
        assert_eq!(first, Some(WakerId(0)));
        assert_eq!(
            wakers.id(&decode::Waker::Interrupt, &mut all),
            Some(WakerId(1))
        );
        assert_eq!(wakers.id(&waker(7), &mut all), first);
        assert_eq!(wakers.id(&waker(8), &mut all), None);
        assert_eq!((all.len(), wakers.left_out()), (2, 1));
        assert_eq!(&*all[0].name, "worker");
    }
}
