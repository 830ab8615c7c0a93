use super::*;

/// A kernel side and threads that use its numbers, at the mercy of a generator: programs look a
/// number up, and may store what they found after it was deleted, though not after the next cut.
struct Model {
    random: u64,
    kernel: HashSet<u32>,
    threads: Vec<Thread>,
    /// What was announced and used, in order: the ring buffer.
    events: Vec<Event>,
    numbers: Numbers<u32, u32>,
    deleted: usize,
}

#[derive(Clone, Copy, Default)]
struct Thread {
    /// The number of its last wait, which it takes for known: 0 is none.
    last: u32,
    waits: bool,
    /// A program that has looked its number up and not stored it yet.
    at_work: Option<u32>,
}

#[derive(Clone, Copy)]
enum Event {
    Announced(u32),
    Used(u32),
}

impl Model {
    fn new(room: usize) -> Model {
        Model {
            random: 0x1234_5678_9abc_def1,
            kernel: HashSet::new(),
            threads: vec![Thread::default(); 12],
            events: Vec::new(),
            numbers: Numbers::new(room),
            deleted: 0,
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// One thread goes on by a step. The numbers of an era come again and again, and some of older
    /// eras do so now and then.
    fn step(&mut self, era: u32) {
        let thread = self.random(12) as usize;
        let Thread {
            last,
            waits,
            at_work,
        } = self.threads[thread];
        if let Some(number) = at_work {
            self.finish(thread, number);
        } else if waits {
            self.threads[thread].waits = false;
            self.events.push(Event::Used(last));
        } else {
            let back = if self.random(50) == 0 {
                self.random(200) as u32
            } else {
                0
            };
            let number = era.saturating_sub(back) * 8 + self.random(20) as u32 + 1;
            let again = self.random(3) == 0 && last != 0;
            let number = if again { last } else { number };
            // Of its last one a thread needs no look-up.
            if !again && !self.kernel.contains(&number) {
                self.kernel.insert(number);
                self.events.push(Event::Announced(number));
            }
            self.threads[thread].at_work = Some(number);
            if self.random(4) > 0 {
                self.finish(thread, number);
            }
        }
    }

    fn finish(&mut self, thread: usize, number: u32) {
        self.threads[thread] = Thread {
            last: number,
            waits: true,
            at_work: None,
        };
    }

    fn take_events(&mut self) {
        for event in std::mem::take(&mut self.events) {
            match event {
                Event::Announced(number) => self.numbers.announced(number, number),
                Event::Used(number) => {
                    assert_eq!(self.numbers.resolve(number), Some(number), "forgotten");
                }
            }
        }
    }

    /// A cut, at which no program is at work; what is read of the threads is read some time later.
    fn end_interval(&mut self, era: u32) {
        for thread in 0..self.threads.len() {
            if let Some(number) = self.threads[thread].at_work {
                self.finish(thread, number);
            }
        }
        self.take_events();
        let mut after = Vec::new();
        for _ in 0..self.random(30) {
            self.step(era);
            after.append(&mut self.events);
        }
        let last = self.threads.iter().map(|thread| thread.last);
        let at_work = self.threads.iter().filter_map(|thread| thread.at_work);
        // What a program that is at work will store is not to be read yet.
        let held = last.filter(|last| *last != 0).collect();
        let _unseen = at_work.count();
        let evicted = self.numbers.end_interval(&held, |_| false);
        self.events = after;
        for _ in 0..self.random(30) {
            self.step(era);
        }
        for number in evicted.numbers {
            self.deleted += usize::from(self.kernel.remove(&number));
        }
    }
}

#[test]
fn no_number_is_forgotten_that_is_still_to_come() {
    let mut model = Model::new(256);
    let mut most = 0;
    for era in 0..3_000 {
        for _ in 0..60 {
            model.step(era);
        }
        model.end_interval(era);
        most = most.max(model.numbers.entries.len());
        assert!(model.kernel.len() <= 256, "the kernel's table is full");
    }
    assert!(
        model.deleted > 10_000,
        "{}: nothing was shown",
        model.deleted
    );
    assert!(most < 512, "{most} numbers are kept");
}

fn ends(numbers: &mut Numbers<u32, u32>, held: &[u32], times: u32) -> Vec<Vec<u32>> {
    let held: HashSet<u32> = held.iter().copied().collect();
    (0..times)
        .map(|_| numbers.end_interval(&held, |id| id == 77).numbers)
        .collect()
}

#[test]
fn what_is_not_seen_for_long_is_forgotten_in_two_steps() {
    let mut numbers = Numbers::new(1000);
    numbers.announced(5, 50);
    let evicted = ends(&mut numbers, &[], MAX_AGE + 1);
    assert_eq!(evicted.concat(), [5]);
    assert_eq!(evicted.last(), Some(&vec![5]), "not before its time");
    assert_eq!(numbers.get(5), Some(50), "it may still come");
    ends(&mut numbers, &[], 1);
    assert_eq!(
        numbers.get(5),
        Some(50),
        "from a thread that had it at hand"
    );
    ends(&mut numbers, &[], 1);
    assert_eq!(numbers.get(5), None);
    assert_eq!(numbers.iter_announced().count(), 0);
}

#[test]
fn a_number_that_a_thread_has_at_hand_stays() {
    let mut numbers = Numbers::new(1000);
    numbers.announced(5, 50);
    assert!(ends(&mut numbers, &[5], 3 * MAX_AGE).concat().is_empty());
    assert_eq!(ends(&mut numbers, &[], MAX_AGE).concat(), [5]);
    // Found before it was deleted, and waited for ever since.
    ends(&mut numbers, &[5], 500);
    assert_eq!(numbers.get(5), Some(50));
    ends(&mut numbers, &[], 1);
    assert_eq!(numbers.resolve(5), Some(50), "that wait ended");
    ends(&mut numbers, &[], 2);
    assert_eq!(numbers.get(5), Some(50));
    ends(&mut numbers, &[], 1);
    assert_eq!(numbers.get(5), None);
}

#[test]
fn a_number_that_is_announced_again_is_known_again() {
    let mut numbers = Numbers::new(1000);
    numbers.announced(5, 50);
    ends(&mut numbers, &[], MAX_AGE + 2);
    numbers.announced(5, 50);
    assert_eq!(numbers.iter_announced().collect::<Vec<_>>(), [(5, 50)]);
    ends(&mut numbers, &[], 5);
    assert_eq!(numbers.get(5), Some(50));
}

#[test]
fn a_number_for_one_wait_goes_after_it() {
    let mut numbers = Numbers::new(1000);
    numbers.announced_once(5, 50);
    assert_eq!(numbers.iter_announced().count(), 0);
    ends(&mut numbers, &[5], 100);
    assert_eq!(numbers.resolve(5), Some(50));
    ends(&mut numbers, &[], 3);
    assert_eq!(numbers.get(5), None);
    assert_eq!(numbers.announced, 0);
}

#[test]
fn numbers_of_remembered_parks_go_where_room_is_short_only() {
    let mut numbers = Numbers::new(100);
    numbers.announced(5, 77);
    assert!(ends(&mut numbers, &[], 3 * MAX_AGE).concat().is_empty());
    for number in 100..151 {
        numbers.announced(number, 0);
    }
    let evicted = numbers.end_interval(&HashSet::new(), |id| id == 77);
    assert_eq!(evicted.numbers, [5], "the others were seen just now");
    assert!(evicted.forget_parks);
    for number in 200..230 {
        numbers.announced(number, 0);
    }
    let evicted = numbers.end_interval(&HashSet::new(), |id| id == 77);
    assert_eq!(evicted.numbers.len(), 51, "over three quarters");
    assert!(!evicted.forget_parks);
}
