use super::bounds::Room;
use super::*;
use crate::collect::address_map::AddressMap;
use crate::collect::made_code::MadeCode;
use crate::collect::modules::Modules;
use crate::decode::{PollClock, SampleSeen, TableVersion, ThreadKey, ThreadName};
use crate::limits::Limits;
use crate::units::{Pid, Tid, Timestamp};

fn bounds() -> StackBounds {
    StackBounds::new(&Limits::default())
}

/// Bounds that are small, the same for every room.
fn small(stacks: usize, frames: usize, new_frames: usize) -> StackBounds {
    let room = Room {
        stacks,
        frames,
        new_frames,
    };
    StackBounds {
        waits: room,
        wakers: room,
        samples: room,
        calls: room,
        shortened: Room { stacks: 0, ..room },
        shortened_at_once: 1 << 13,
        numbers: 1 << 16,
    }
}

const OWNER: Owner = Owner {
    process: ProcessId(0),
    program: 0,
};

/// Two modules, the second of which is mapped at `library`.
fn map(library: u64) -> AddressMap {
    AddressMap::of_regions(&[(0x1000, 0x8000_0000), (library, library + 0x1000)])
}

fn seen(number: u64, kind: StackKind, user: &[u64]) -> StackSeen {
    StackSeen {
        thread: ThreadKey {
            pid: Pid(7),
            tid: Tid(8),
        },
        name: ThreadName::new([0; 16]),
        time: Timestamp(1),
        number: StackNumber::new(number),
        kind,
        syscall: None,
        truncated: None,
        table_version: TableVersion(1),
        tls_state: TlsState::Unknown,
        runtime: None,
        raw: false,
        pointer_steps: 0,
        user: user.iter().map(|address| Addr(*address)).collect(),
        kernel: Vec::new(),
    }
}

fn number(number: u64) -> StackNumber {
    StackNumber::new(number).expect("a number")
}

/// A table with what it needs.
struct Test {
    table: StackTable,
    frames: Frames,
    modules: Modules,
}

impl Test {
    fn new(bounds: StackBounds) -> Test {
        Test {
            table: StackTable::new(bounds),
            frames: Frames::default(),
            modules: Modules::default(),
        }
    }

    fn add_by(&mut self, map: &AddressMap, owner: Owner, seen: &StackSeen) -> Option<StackId> {
        self.add_with(map, owner, seen, None)
    }

    fn add_with(
        &mut self,
        map: &AddressMap,
        owner: Owner,
        seen: &StackSeen,
        made: Option<&MadeCode>,
    ) -> Option<StackId> {
        let code = CodeOf {
            map,
            modules: &self.modules,
            process: OWNER.process,
            made,
            memory: None,
        };
        self.table.add(seen, owner, &code, &mut self.frames)
    }

    fn add(&mut self, seen: &StackSeen) -> Option<StackId> {
        self.add_by(&map(0x9000_0000), OWNER, seen)
    }

    fn sample(&mut self, user: &[u64]) -> Option<StackId> {
        let map = map(0x9000_0000);
        let code = CodeOf {
            map: &map,
            modules: &self.modules,
            process: OWNER.process,
            made: None,
            memory: None,
        };
        let seen = SampleSeen {
            clock: PollClock::default(),
            task_id: None,
            stack: seen(0, StackKind::Sample, user),
            cut: 0,
        };
        self.table.add_sample(&seen, OWNER, &code, &mut self.frames)
    }
}

#[test]
fn a_stack_is_the_same_wherever_its_code_is_mapped() {
    let mut test = Test::new(bounds());
    let id = test.add_by(
        &map(0x9000_0000),
        OWNER,
        &seen(10, StackKind::OffCpu, &[0x9000_0100, 0x2000]),
    );
    let made = test.frames.made();
    // A thousand times the library is unloaded and loaded elsewhere, and the kernel side's number
    // is another one each time.
    for n in 1..1000 {
        let library = 0x9000_0000 + n * 0x10_0000;
        let again = seen(10 + n, StackKind::OffCpu, &[library + 0x100, 0x2000]);
        assert_eq!(test.add_by(&map(library), OWNER, &again), id);
        assert_eq!(test.table.resolve(number(10 + n)), id);
    }
    assert_eq!((test.table.stacks.len(), test.frames.made()), (1, made));
    assert_eq!(test.table.resolve(number(10)), id);
    let other = seen(9999, StackKind::OffCpu, &[0x9000_0101, 0x2000]);
    assert_ne!(test.add_by(&map(0x9000_0000), OWNER, &other), id);
}

/// A compiler writes the names of its code down after that has been seen, and uses the memory again.
#[test]
fn code_made_at_run_time_gets_the_name_that_was_written_last() {
    let mut test = Test::new(bounds());
    let [early, first, second] = [
        "",
        "98000000 100 first",
        "98000000 100 first\n98000000 100 second",
    ]
    .map(MadeCode::of);
    let mut add = |number, made: &MadeCode| {
        let stack = seen(number, StackKind::OffCpu, &[0x2000, 0x9800_0010]);
        let id = test.add_with(&map(0x9000_0000), OWNER, &stack, Some(made));
        let frames = &test.table.get(id.expect("room")).expect("a stack").frames;
        (id, frames.last().expect("a frame").function.to_string())
    };
    let (unnamed, name) = add(10, &early);
    assert_eq!(name, "0x9800000f");
    let (named, name) = add(11, &first);
    assert_eq!(name, "first");
    assert_ne!(named, unnamed);
    assert_eq!(add(12, &first), (named, "first".into()));
    let (again, name) = add(13, &second);
    assert_eq!(name, "second");
    assert_ne!(again, named);
}

/// The kernel frames of a wait from before the recording are not known, those of the next ones are.
#[test]
fn a_stack_gets_the_kernel_frames_that_it_was_first_seen_without() {
    let mut test = Test::new(bounds());
    let bare = seen(10, StackKind::OffCpu, &[0x2000, 0x3000]);
    let id = test.add(&bare).expect("room");
    let with = |number, kernel: &[u64]| StackSeen {
        kernel: kernel.iter().map(|address| Addr(*address)).collect(),
        ..seen(number, StackKind::OffCpu, &[0x2000, 0x3000])
    };
    let (first, second) = (u64::MAX - 10, u64::MAX - 20);
    assert_eq!(test.add(&with(11, &[first, second])), Some(id));
    assert_eq!(test.add(&with(12, &[second])), Some(id));
    test.table.name_kernel(&mut test.frames);
    let frames = |test: &Test| test.table.get(id).expect("kept").kernel.len();
    assert_eq!(frames(&test), 2);
    // Once is enough.
    assert_eq!(test.add(&with(13, &[second])), Some(id));
    test.table.name_kernel(&mut test.frames);
    assert_eq!(frames(&test), 2);
}

#[test]
fn what_tells_stacks_apart_is_not_only_where_they_are() {
    let mut test = Test::new(bounds());
    let plain = seen(10, StackKind::OffCpu, &[0x2000, 0x3000]);
    let first = test.add(&plain);
    let mut ids = HashSet::from([first]);
    let syscall = |number| {
        Some(Syscall {
            number,
            args: [0; 6],
        })
    };
    for other in [
        StackSeen {
            kind: StackKind::Waker,
            ..plain.clone()
        },
        StackSeen {
            syscall: syscall(0),
            ..plain.clone()
        },
        StackSeen {
            syscall: syscall(1),
            ..plain.clone()
        },
        StackSeen {
            tls_state: TlsState::WorkerPoll,
            ..plain.clone()
        },
        StackSeen {
            truncated: Some(Truncation::TooDeep),
            ..plain.clone()
        },
    ] {
        ids.insert(test.add(&other));
    }
    for owner in [
        Owner {
            process: ProcessId(1),
            ..OWNER
        },
        Owner {
            program: 1,
            ..OWNER
        },
    ] {
        ids.insert(test.add_by(&map(0x9000_0000), owner, &plain));
    }
    assert_eq!(ids.len(), 8, "{ids:?}");
    assert!(!ids.contains(&None));
    // What a stack has in the kernel, and the arguments, are of the first one.
    let again = StackSeen {
        kernel: vec![Addr(1)],
        ..plain
    };
    assert_eq!(test.add(&again), first);
}

#[test]
fn equal_frames_are_one() {
    let mut test = Test::new(bounds());
    let ids = [0x5000, 0x6000].map(|leaf| {
        let seen = seen(leaf, StackKind::OffCpu, &[leaf, 0x2000, 0x3000]);
        test.add(&seen).expect("room")
    });
    let [first, second] = ids.map(|id| test.table.get(id).expect("a stack").frames.clone());
    assert_ne!(first[0], second[0]);
    for depth in [1, 2] {
        assert!(std::sync::Arc::ptr_eq(&first[depth], &second[depth]));
    }
    assert_eq!(test.frames.made(), 4);
}

#[test]
fn samples_take_no_room_of_waits() {
    let mut test = Test::new(small(1000, 500, 500));
    for n in 0..5000 {
        test.sample(&[0x1_0000 + n, 0x2000]);
    }
    assert!(test.table.samples_left_out() > 4000);
    assert!(test.frames.made() <= 502, "what is left out is not kept");
    for (n, kind) in [StackKind::Waker, StackKind::Syscall, StackKind::Panic]
        .into_iter()
        .enumerate()
    {
        for leaf in 0..2000 {
            let base = 0x10_0000 * (n as u64 + 1);
            test.add(&seen(base + leaf, kind, &[base + leaf, 0x2000]));
        }
    }
    for leaf in 0..100 {
        let wait = seen(
            1 << 40 | leaf,
            StackKind::OffCpu,
            &[0x50_0000 + leaf, 0x2000],
        );
        assert!(test.add(&wait).is_some(), "wait {leaf} found no room");
    }
}

#[test]
fn what_finds_no_room_is_counted_and_stays_unknown() {
    let mut test = Test::new(small(2, 1000, 1000));
    let known = test.add(&seen(10, StackKind::OffCpu, &[0x2000]));
    test.add(&seen(11, StackKind::OffCpu, &[0x2001]));
    assert_eq!(test.add(&seen(12, StackKind::OffCpu, &[0x2002])), None);
    assert_eq!(test.table.left_out(), 1);
    assert_eq!(test.table.resolve(number(12)), None);
    // The kernel side's number of a known stack may still be a new one.
    assert_eq!(test.add(&seen(13, StackKind::OffCpu, &[0x2000])), known);
    assert_eq!(test.table.left_out(), 1);
    // There is always one that stands for those of unknown stack.
    let unknown = test.table.no_stack(OWNER);
    assert_eq!(test.table.no_stack(OWNER), unknown);
    let stack = test.table.get(unknown).expect("a stack");
    assert_eq!(stack.truncated, Some(Truncation::NoStack));
    // It is not asked for anew all the time.
    for _ in 0..1000 {
        let evicted = test.table.end_interval(&HashSet::new());
        assert!(!evicted.numbers.contains(&number(12)));
    }
}

#[test]
fn evicted_numbers_come_back_as_the_same_stack() {
    let mut test = Test::new(bounds());
    let wait = seen(10, StackKind::OffCpu, &[0x2000, 0x3000]);
    let id = test.add(&wait);
    let nobody = HashSet::new();
    let mut evicted = Vec::new();
    for _ in 0..200 {
        evicted.extend(test.table.end_interval(&nobody).numbers);
    }
    assert_eq!(evicted, [number(10)]);
    assert_eq!(test.table.resolve(number(10)), None, "forgotten");
    assert_eq!(test.add(&wait), id);
    assert_eq!(test.table.resolve(number(10)), id);
    assert_eq!(test.table.stacks.len(), 1);
}

#[test]
fn numbers_of_one_wait_are_forgotten_after_it() {
    let mut test = Test::new(bounds());
    let wait = StackSeen {
        raw: true,
        ..seen(10, StackKind::OffCpu, &[0x2000])
    };
    let id = test.add(&wait);
    let held = HashSet::from([number(10)]);
    for _ in 0..100 {
        assert!(test.table.end_interval(&held).numbers.is_empty());
    }
    assert_eq!(test.table.resolve(number(10)), id);
    for _ in 0..3 {
        assert!(test.table.end_interval(&HashSet::new()).numbers.is_empty());
    }
    assert_eq!(test.table.resolve(number(10)), None);
}

#[test]
fn lent_stacks_come_back() {
    let mut test = Test::new(bounds());
    let id = test
        .add(&seen(10, StackKind::OffCpu, &[0x2000]))
        .expect("room");
    let mut tables = Tables::default();
    test.table.lend(&mut tables);
    assert!(tables.stack(id).is_some());
    test.table.take_back(&mut tables);
    assert!(tables.stacks.is_empty() && test.table.get(id).is_some());
}

/// What a storm of new stacks costs; printed, and bounded so widely that only a slip of an order
/// is found.
#[test]
fn adding_a_stack_is_cheap() {
    let mut test = Test::new(bounds());
    let callers: Vec<u64> = (0..30).map(|depth| 0x2000 + depth * 0x10).collect();
    let begun = std::time::Instant::now();
    let count = 20_000_u64;
    for n in 0..count {
        let mut user = callers.clone();
        user.insert(0, 0x10_0000 + n * 2);
        test.add(&seen(1000 + n, StackKind::OffCpu, &user));
    }
    let each = begun.elapsed() / count as u32;
    println!("a new stack of 31 frames: {each:?}");
    let begun = std::time::Instant::now();
    for n in 0..count {
        let mut user = callers.clone();
        user.insert(0, 0x10_0000 + n * 2);
        test.add(&seen(1_000_000 + n, StackKind::OffCpu, &user));
    }
    let again = begun.elapsed() / count as u32;
    println!("a known stack by another number: {again:?}");
    assert_eq!(test.table.stacks.len() as u64, count);
    assert!(each.as_micros() < 1000 && again.as_micros() < 100);
}

/// A recursion of this depth.
fn recursion(depth: u64) -> StackSeen {
    let mut user = vec![0x2000];
    user.resize(depth as usize, 0x3000);
    user.extend([0x4000, 0x5000]);
    seen(depth, StackKind::OffCpu, &user)
}

#[test]
fn beyond_the_room_for_whole_stacks_some_callers_are_left_out() {
    let bounds = StackBounds {
        shortened: Room {
            stacks: 2,
            frames: 1000,
            new_frames: 1000,
        },
        ..small(1, 1000, 1000)
    };
    let mut test = Test::new(bounds);
    let whole = test.add(&recursion(40)).expect("room");
    let first = test.add(&recursion(41)).expect("room without some callers");
    assert_ne!(whole, first);
    for depth in 42..140 {
        assert_eq!(test.add(&recursion(depth)), Some(first), "depth {depth}");
        assert_eq!(test.table.resolve(number(depth)), Some(first));
    }
    assert_eq!((test.table.shortened(), test.table.left_out()), (1, 0));
    assert_eq!(test.table.policy(first), StackPolicy::Record);
    let functions = |id| {
        let stack: &Stack = test.table.get(id).expect("a stack");
        let functions = stack.frames.iter().map(|frame| frame.function.to_string());
        functions.collect::<Vec<_>>()
    };
    let (whole, short) = (functions(whole), functions(first));
    assert_eq!(short[..12], whole[..12]);
    assert_eq!(short[12], "[frames left out]");
    assert_eq!(short[13..], whole[whole.len() - 12..]);
    // What differs in more than the callers is another stack, and there is an end to that as well.
    let mut other = recursion(50);
    other.number = Some(number(1000));
    other.user[0] = Addr(0x2100);
    assert!(test.add(&other).is_some_and(|id| id != first));
    (other.number, other.user[0]) = (Some(number(1001)), Addr(0x2200));
    assert_eq!(test.add(&other), None);
    assert_eq!((test.table.shortened(), test.table.left_out()), (2, 1));
}

#[test]
fn naming_stacks_without_room_has_a_bound_in_each_interval() {
    let bounds = StackBounds {
        shortened: Room {
            stacks: 100,
            frames: 10_000,
            new_frames: 1000,
        },
        shortened_at_once: 3,
        ..small(0, 1000, 1000)
    };
    let mut test = Test::new(bounds);
    for _ in 0..2 {
        let found = (40..50).filter(|depth| test.add(&recursion(*depth)).is_some());
        assert_eq!(found.count(), 3);
        test.table.end_interval(&HashSet::new());
    }
    assert_eq!(test.table.left_out(), 14);
}
