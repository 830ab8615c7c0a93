//! Files that are no captures, or not as holdup left them: whoever opens one does not know who made it.

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "data/recordings/mod.rs"]
mod recordings;

mod capture_support;
#[path = "fuzz_support/mutate.rs"]
mod mutate;

use capture_support::write;
use holdup::analyze::Analyzer;
use holdup::capture::{Bounds, Capture, Error, Range};
use holdup::recording::Recording;
use holdup::render::{Format, Options, render};
use holdup::report::Keep;
use mutate::{Random, mutated};
use rusqlite::Connection;
use std::fs::{self, File};
use std::path::Path;

const MUTATIONS: u64 = 5_000;
/// What reading any of them may take, and this program besides.
const MAX_MIB: u64 = 400;

/// One mutation in so many is drawn in every form: pages, traces and the like keep single waits, and take
/// longer.
const EVERY_FORM: u64 = 5;

/// Reads all of a file as `holdup report` does. Returns whether it was fit for a report.
fn report(path: &Path) -> Result<bool, Error> {
    drawn(path, Forms::Some)
}

/// In which forms a report is drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Forms {
    Some,
    Every,
}

impl Forms {
    fn of_round(round: u64) -> Forms {
        match round % EVERY_FORM {
            0 => Forms::Every,
            _ => Forms::Some,
        }
    }
}

/// Draws all of a file in these forms.
fn drawn(path: &Path, forms: Forms) -> Result<bool, Error> {
    let capture = Capture::open(File::open(path).expect("opens"))?;
    let mut analyzer = Analyzer::new(&capture.header);
    if forms == Forms::Every {
        let keep = Format::ALL.iter().map(|format| format.keep());
        analyzer.keep(keep.fold(Keep::NOTHING, Keep::or));
    }
    let read = capture.intervals(Range::ALL, |interval| {
        analyzer.add(&capture.tables, interval)
    });
    // What was read before an error may have been summed up, too.
    let report = analyzer.report(&capture.header, &capture.tables);
    let some = [
        Format::Text,
        Format::Json,
        Format::WakersFolded,
        Format::WallFolded,
    ];
    let formats: &[Format] = match forms {
        Forms::Some => &some,
        Forms::Every => &Format::ALL,
    };
    for format in formats {
        render(*format, &report, &Options::default(), &mut std::io::sink()).expect("draws");
    }
    read.map(|_| true)
}

fn small() -> Recording {
    let seconds = [1, 2, 3].map(|seconds| seconds * recordings::builder::SEC);
    recordings::in_intervals(&seconds)
}

/// Every recording that has something of its own, as the bytes of its capture.
fn seeds(dir: &Path) -> Vec<Vec<u8>> {
    let path = dir.join("seed");
    let own = [
        "several",
        "held_lock",
        "hung",
        "in_calls",
        "in_pieces",
        "stripped",
        "hostile",
    ];
    let mut all = recordings::all();
    all.retain(|(name, _)| own.contains(name));
    all.push(("small", small()));
    assert_eq!(all.len(), own.len() + 1);
    let bytes = all.into_iter().map(|(_, recording)| {
        write(&path, &recording, Bounds::default());
        let bytes = fs::read(&path).expect("reads");
        fs::remove_file(&path).expect("removes");
        bytes
    });
    bytes.collect()
}

fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.trim().parse::<u64>().ok())
        .expect("a number")
        / 1024
}

#[test]
fn changed_bytes_never_make_it_panic() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("capture");
    let seeds = seeds(dir.path());
    let mut random = Random::new(0x686f_6c64);
    let (mut refused, mut read) = (0, 0);
    for round in 0..MUTATIONS {
        let seed = &seeds[random.below(seeds.len())];
        let mut bytes = match round % 3 {
            // Anything, anywhere.
            0 => mutated(&[seed], &mut random),
            _ => seed.clone(),
        };
        if round % 3 == 1 {
            let len = bytes.len();
            bytes.truncate(random.below(len));
        }
        if round % 3 == 2 {
            // Within the pages, so that the file stays one.
            for _ in 0..=random.below(20) {
                let at = random.below(bytes.len());
                bytes[at] = random.next() as u8;
            }
        }
        fs::write(&path, &bytes).expect("writes");
        match drawn(&path, Forms::of_round(round)) {
            Ok(_) => read += 1,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
    }
    println!("{read} were read, {refused} refused, {} MiB", peak_mib());
    assert!(read > MUTATIONS / 20 && refused > MUTATIONS / 4);
    assert!(peak_mib() < MAX_MIB, "{} MiB", peak_mib());
}

/// Values that are of the wrong type, too large, too small, or name what is not there.
const VALUES: &[&str] = &[
    "NULL",
    "-1",
    "0",
    "1",
    "2",
    "7",
    "63",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "2305843009213693951",
    "1e300",
    "''",
    "'x'",
    "'[]'",
    "'{}'",
    "'[0,0,0]'",
    "'[4294967295]'",
    "'[[[[[[]]]]]]'",
    "x'00ff'",
    "'\u{202e}'",
    "zeroblob(70000)",
    "'blocked'",
    "'worker'",
    "id",
    "rowid + 1000000",
    "abs(random() % 100)",
    "random()",
    "'{\"events\":18446744073709551615}'",
];

const TABLES: &[&str] = &[
    "capture",
    "processes",
    "threads",
    "frames",
    "stacks",
    "objects",
    "wakers",
    "intervals",
    "thread_times",
    "sums",
    "waits",
    "open_waits",
    "samples",
    "polls",
    "calls",
    "panics",
    "driver_gaps",
];

fn columns(connection: &Connection, table: &str) -> Vec<String> {
    let mut info = connection
        .prepare(&format!("PRAGMA table_info({table})"))
        .expect("prepares");
    let names = info.query_map([], |row| row.get(1)).expect("asks");
    names.map(|name| name.expect("a name")).collect()
}

/// One statement that does harm. It may fail.
fn harm(connection: &Connection, random: &mut Random) -> String {
    let table = TABLES[random.below(TABLES.len())];
    let columns = columns(connection, table);
    if columns.is_empty() {
        return "SELECT 1".into();
    }
    let column = &columns[random.below(columns.len())];
    let value = VALUES[random.below(VALUES.len())];
    let some = match random.below(3) {
        0 => "1".to_owned(),
        1 => format!("id = (SELECT id FROM {table} ORDER BY random() LIMIT 1)"),
        _ => "abs(random() % 3) = 0".to_owned(),
    };
    match random.below(12) {
        0 => format!("DELETE FROM {table} WHERE {some}"),
        1 => format!(
            "UPDATE {table} SET id = id + {} WHERE {some}",
            random.below(9)
        ),
        2 => {
            let others = columns[1..].join(", ");
            format!("INSERT INTO {table} SELECT id + 1000, {others} FROM {table}")
        }
        3 => format!("DROP TABLE {table}"),
        4 => format!("ALTER TABLE {table} ADD COLUMN more AS (hex(zeroblob(100000000)))"),
        5 => format!(
            "CREATE TRIGGER t{} AFTER UPDATE ON {table} BEGIN SELECT 1; END",
            random.next()
        ),
        _ => format!("UPDATE OR REPLACE {table} SET \"{column}\" = {value} WHERE {some}"),
    }
}

#[test]
fn changed_rows_never_make_it_panic() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("capture");
    let seeds = seeds(dir.path());
    let mut random = Random::new(0x0069_6e63);
    let (mut refused, mut read) = (0, 0);
    for round in 0..MUTATIONS {
        fs::write(&path, &seeds[random.below(seeds.len())]).expect("writes");
        let connection = Connection::open(&path).expect("opens");
        connection
            .execute_batch(
                "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF",
            )
            .expect("sets");
        for _ in 0..=random.below(3) {
            let sql = harm(&connection, &mut random);
            // NOT NULL and the like keep some of them out.
            let _ = connection.execute_batch(&sql);
        }
        drop(connection);
        match drawn(&path, Forms::of_round(round)) {
            Ok(_) => read += 1,
            Err(_) => refused += 1,
        }
    }
    println!("{read} were read, {refused} refused, {} MiB", peak_mib());
    assert!(read > MUTATIONS / 20 && refused > MUTATIONS / 4);
    assert!(peak_mib() < MAX_MIB, "{} MiB", peak_mib());
}

fn error_of(path: &Path) -> Error {
    match report(path) {
        Ok(_) => panic!("{} was read", path.display()),
        Err(error) => error,
    }
}

#[test]
fn what_is_no_capture_is_told_from_what_is_a_damaged_one() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("x");
    write(&path, &small(), Bounds::default());
    let good = fs::read(&path).expect("reads");
    assert!(report(&path).expect("a capture"));

    let with = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("writes");
        error_of(&path)
    };
    assert!(matches!(with(b""), Error::Empty));
    assert!(matches!(with(b"holdup report\n"), Error::NotSqlite));
    assert!(matches!(with(&[0; 100_000]), Error::NotSqlite));
    assert!(matches!(with(b"\x7fELF\x02\x01\x01"), Error::NotSqlite));
    assert!(matches!(with(&good[..good.len() - 4096]), Error::CutOff));
    assert!(matches!(with(&good[..good.len() - 1]), Error::CutOff));
    assert!(matches!(with(&good[..50]), Error::CutOff));
    assert!(matches!(error_of(dir.path()), Error::Read(_)));

    let sql = |sql: &str| {
        fs::write(&path, &good).expect("writes");
        let other = Connection::open(&path).expect("opens");
        other.execute_batch(sql).expect(sql);
        drop(other);
        error_of(&path)
    };
    assert!(matches!(sql("PRAGMA application_id = 7"), Error::Foreign));
    assert!(matches!(sql("PRAGMA user_version = 2"), Error::Newer(2)));
    for harm in [
        "PRAGMA journal_mode = WAL",
        "DROP TABLE panics",
        "DROP TABLE panics; CREATE VIEW panics AS SELECT * FROM polls",
        "ALTER TABLE waits ADD COLUMN x AS (abs(-9223372036854775808))",
        "DELETE FROM capture",
        "UPDATE waits SET stack = 4000",
        "UPDATE waits SET thread = -1",
        "UPDATE waits SET began = 9223372036854775807",
        "UPDATE stacks SET frames = '[4000]'",
        "UPDATE stacks SET role = 'king'",
        "UPDATE frames SET function = x'ff'",
        "UPDATE intervals SET ended = began - 1",
        "UPDATE sums SET blocked = -1",
        "UPDATE sums SET blocked = 9223372036854775807",
        "DELETE FROM intervals WHERE id = 1",
        "DELETE FROM frames WHERE id = 3",
    ] {
        let error = sql(harm);
        assert!(matches!(error, Error::Damaged(_)), "{harm}: {error}");
    }
    let other = dir.path().join("other");
    Connection::open(&other)
        .expect("opens")
        .execute_batch("CREATE TABLE t (x)")
        .expect("makes");
    assert!(matches!(error_of(&other), Error::Foreign));
}

/// A table of names that leads in circles, or says more than it can hold, ends soon.
#[test]
fn a_row_that_is_too_large_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("x");
    write(&path, &small(), Bounds::default());
    let other = Connection::open(&path).expect("opens");
    other
        .execute_batch("UPDATE frames SET function = hex(zeroblob(8000000)) WHERE id = 0")
        .expect("updates");
    drop(other);
    assert!(matches!(error_of(&path), Error::TooMuch(_)));
}
