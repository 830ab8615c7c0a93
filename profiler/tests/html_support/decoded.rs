//! The page's data, read by other code than the page's and the renderer's.

use serde_json::Value;
use std::fmt::Write as _;
use std::io::Read as _;

/// One wait as the page knows it; indices are one more than those of the tables, 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) start: u64,
    pub(crate) blocked: u64,
    pub(crate) runqueue: u64,
    /// Stack, object, waker, waker's stack.
    pub(crate) named: [u64; 4],
    pub(crate) task: Option<u64>,
}

/// Everything.
pub(crate) struct Decoded {
    pub(crate) names: Value,
    /// By lane.
    pub(crate) waits: Vec<Vec<Wait>>,
    /// By lane: start, length, stack, blocked, run queue, running, waits, samples, told by the tick; task.
    pub(crate) polls: Vec<Vec<([u64; 9], Option<u64>)>>,
    /// Start, length, and lane, running, runnable, off-CPU of each thread.
    pub(crate) intervals: Vec<(u64, u64, Vec<[u64; 4]>)>,
}

struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn next(&mut self) -> u64 {
        let mut value = 0_u64;
        for shift in (0..).step_by(7) {
            let (&byte, rest) = self.0.split_first().expect("more bytes");
            self.0 = rest;
            value += u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    fn difference(&mut self) -> i64 {
        let zigzag = i64::try_from(self.next()).expect("small");
        if zigzag % 2 == 0 {
            zigzag / 2
        } else {
            -(zigzag + 1) / 2
        }
    }

    fn tasks(&mut self, length: usize) -> Vec<Option<u64>> {
        let mut last = 0_u64;
        let one = |_| {
            (self.next() == 1).then(|| {
                last = last.wrapping_add_signed(self.difference());
                last
            })
        };
        (0..length).map(one).collect()
    }
}

fn base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => panic!("no digit: {c}"),
    };
    let (mut bytes, mut bits, mut known) = (Vec::new(), 0_u32, 0);
    for c in text.bytes().filter(|c| *c != b'=') {
        bits = (bits << 6) | u32::from(digit(c));
        known += 6;
        if known >= 8 {
            known -= 8;
            bytes.push((bits >> known) as u8);
            bits &= (1 << known) - 1;
        }
    }
    bytes
}

impl Decoded {
    pub(crate) fn of(data: &str) -> Decoded {
        let mut bytes = Vec::new();
        let packed = base64(data);
        let mut gzip = flate2::read::GzDecoder::new(&*packed);
        gzip.read_to_end(&mut bytes).expect("gzip");
        let line = bytes
            .iter()
            .position(|byte| *byte == b'\n')
            .expect("a line");
        let names: Value = serde_json::from_slice(&bytes[..line]).expect("JSON");
        let mut numbers = Numbers(&bytes[line + 1..]);
        let lanes = names["lanes"].as_array().expect("lanes");
        let lengths = |what: &str| -> Vec<usize> {
            let of = |lane: &Value| lane[what].as_u64().expect("a number") as usize;
            lanes.iter().map(of).collect()
        };
        let (waits, polls) = (lengths("waits"), lengths("polls"));
        let waits = by_lane(&waits, read_waits(&mut numbers, &waits));
        let polls = by_lane(&polls, read_polls(&mut numbers, &polls));
        let mut intervals = Vec::new();
        let mut last = 0_u64;
        for _ in 0..names["intervals"].as_u64().expect("a number") {
            last = last.wrapping_add_signed(numbers.difference());
            let length = numbers.next();
            let threads = numbers.next();
            let threads = (0..threads).map(|_| [(); 4].map(|()| numbers.next()));
            intervals.push((last, length, threads.collect()));
        }
        assert!(numbers.0.is_empty(), "{} bytes are left", numbers.0.len());
        Decoded {
            names,
            waits,
            polls,
            intervals,
        }
    }

    /// What a reader can compare.
    pub(crate) fn shown(&self) -> String {
        let mut text = serde_json::to_string_pretty(&self.names).expect("memory");
        for (lane, waits) in self.waits.iter().enumerate() {
            for wait in waits {
                writeln!(text, "\nlane {lane} {wait:?}").expect("memory");
            }
        }
        for (lane, polls) in self.polls.iter().enumerate() {
            for poll in polls {
                writeln!(text, "\nlane {lane} poll {poll:?}").expect("memory");
            }
        }
        for interval in &self.intervals {
            writeln!(text, "\ninterval {interval:?}").expect("memory");
        }
        text.replace("\n\n", "\n")
    }
}

fn by_lane<T: Clone>(lengths: &[usize], all: Vec<T>) -> Vec<Vec<T>> {
    let mut rest = &*all;
    let lanes = lengths.iter().map(|length| {
        let (own, others) = rest.split_at(*length);
        rest = others;
        own.to_vec()
    });
    lanes.collect()
}

fn read_waits(numbers: &mut Numbers<'_>, lanes: &[usize]) -> Vec<Wait> {
    let all: usize = lanes.iter().sum();
    let gaps: Vec<i64> = (0..all).map(|_| numbers.difference()).collect();
    let mut column = || -> Vec<u64> { (0..all).map(|_| numbers.next()).collect() };
    let columns: [Vec<u64>; 6] = std::array::from_fn(|_| column());
    let tasks = numbers.tasks(all);
    let mut waits = Vec::new();
    for length in lanes {
        let mut end = 0_u64;
        for _ in 0..*length {
            let at = waits.len();
            let start = end.wrapping_add_signed(gaps[at]);
            let of = |column: usize| columns[column][at];
            end = start + of(0) + of(1);
            waits.push(Wait {
                start,
                blocked: of(0),
                runqueue: of(1),
                named: [of(2), of(3), of(4), of(5)],
                task: tasks[at],
            });
        }
    }
    waits
}

fn read_polls(numbers: &mut Numbers<'_>, lanes: &[usize]) -> Vec<([u64; 9], Option<u64>)> {
    let all: usize = lanes.iter().sum();
    let gaps: Vec<i64> = (0..all).map(|_| numbers.difference()).collect();
    let lengths: Vec<u64> = (0..all).map(|_| numbers.next()).collect();
    let rest: Vec<[u64; 7]> = (0..all).map(|_| [(); 7].map(|()| numbers.next())).collect();
    let tasks = numbers.tasks(all);
    let mut polls = Vec::new();
    for length in lanes {
        let mut end = 0_u64;
        for _ in 0..*length {
            let at = polls.len();
            let start = end.wrapping_add_signed(gaps[at]);
            end = start + lengths[at];
            let [stack, blocked, runqueue, running, waits, samples, tick] = rest[at];
            let poll = [
                start,
                lengths[at],
                stack,
                blocked,
                runqueue,
                running,
                waits,
                samples,
                tick,
            ];
            polls.push((poll, tasks[at]));
        }
    }
    polls
}
