use super::super::committed::CommittedStore;
use super::super::vfs::Opened;
use super::*;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;

/// The rows of the table.
type State = Vec<(i64, i64, String)>;

/// Rows of `t`, which a transaction changes, appends to and thins out.
fn change(connection: &Connection, round: i64) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    for row in 0..60 {
        let text = format!("{round}-{row}-{}", "x".repeat(200));
        connection.execute("INSERT INTO t (round, text) VALUES (?1, ?2)", (round, text))?;
    }
    connection.execute("UPDATE t SET round = ?1 WHERE id % 7 = 0", [round])?;
    connection.execute("DELETE FROM t WHERE round < ?1", [round - 2])?;
    connection.execute_batch("COMMIT")
}

fn new_file(path: &Path) -> File {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true);
    options.open(path).expect("a new file")
}

fn contents(connection: &Connection) -> State {
    let check: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("checks");
    assert_eq!(check, "ok");
    let mut all = connection
        .prepare("SELECT id, round, text FROM t")
        .expect("prepares");
    let rows = all.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    rows.expect("reads")
        .map(|row| row.expect("a row"))
        .collect()
}

/// What our reader finds in a file.
fn read(path: &Path) -> State {
    let file = File::open(path).expect("opens");
    let (store, _) = CommittedStore::open(file).expect("a database");
    let opened = Opened::new(Box::new(store), OpenFlags::SQLITE_OPEN_READ_ONLY).expect("opens");
    contents(opened.connection().expect("connected"))
}

/// Writes some transactions and is killed after so many changes of the file. Returns what was in the
/// database after each transaction that SQLite took for done, and whether it came to the end.
fn write(path: &Path, left: Option<u32>) -> (Vec<State>, bool) {
    let mut store = CommitStore::new(new_file(path), Failure::default());
    store.left = left;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let opened = Opened::new(Box::new(store), flags).expect("opens");
    let connection = opened.connection().expect("connected");
    let begun = connection.execute_batch(
        "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = NORMAL;
         CREATE TABLE t (id INTEGER PRIMARY KEY, round INTEGER, text TEXT);",
    );
    if begun.is_err() {
        return (Vec::new(), false);
    }
    let mut states = vec![Vec::new()];
    for round in 0..6 {
        if change(connection, round).is_err() {
            return (states, false);
        }
        states.push(contents(connection));
    }
    (states, true)
}

#[test]
fn whenever_it_is_killed_a_whole_transaction_is_the_last() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("db");
    let (all, whole) = write(&path, None);
    assert!(whole);
    assert_eq!(&read(&path), all.last().expect("states"));
    let mut seen = std::collections::BTreeSet::new();
    for left in 0.. {
        let (_, whole) = write(&path, Some(left));
        if whole {
            break;
        }
        let size = std::fs::metadata(&path).expect("there").len();
        if CommittedStore::open(File::open(&path).expect("opens")).is_err() {
            // Nothing was committed yet.
            assert!(
                seen.is_empty(),
                "after {left} changes {size} bytes are no database"
            );
            continue;
        }
        let now = read(&path);
        let state = all.iter().position(|state| *state == now);
        let state = state.unwrap_or_else(|| panic!("after {left} changes: half a transaction"));
        assert!(
            seen.last().is_none_or(|last| state >= *last),
            "went back after {left} changes"
        );
        seen.insert(state);
    }
    assert_eq!(seen.len(), all.len(), "each state was seen");
}

#[test]
fn a_file_that_was_ended_in_order_is_a_plain_database() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("db");
    let (all, _) = write(&path, None);
    let size = std::fs::metadata(&path).expect("there").len();
    assert!(
        Trailer::find(&File::open(&path).expect("opens"), size)
            .expect("reads")
            .is_none()
    );
    let plain = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    assert_eq!(
        &contents(&plain.expect("opens")),
        all.last().expect("states")
    );
}

/// Another program that has changed the database counts more than what we left behind its end.
#[test]
fn a_trailer_is_not_used_on_pages_that_others_have_changed() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("db");
    let changes = (0..).take_while(|left| !write(&path, Some(*left)).1);
    // Killed at the very end: everything is in its place, and the trailer is still there.
    let changes = changes.count() as u32;
    assert!(write(&path, Some(changes)).1);
    let size = std::fs::metadata(&path).expect("there").len();
    let found = Trailer::find(&File::open(&path).expect("opens"), size).expect("reads");
    assert!(found.is_some(), "{size}");
    let other = Connection::open(&path).expect("opens");
    other
        .execute("UPDATE t SET text = 'theirs'", [])
        .expect("updates");
    let theirs = contents(&other);
    drop(other);
    assert_eq!(read(&path), theirs);
}

/// The next transaction is written where the trailer of the last one was.
#[test]
fn who_reads_is_not_disturbed_by_the_next_transaction() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("db");
    let store = CommitStore::new(new_file(&path), Failure::default());
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let opened = Opened::new(Box::new(store), flags).expect("opens");
    let connection = opened.connection().expect("connected");
    connection
        .execute_batch(
            "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = NORMAL;
             CREATE TABLE t (id INTEGER PRIMARY KEY, round INTEGER, text TEXT);",
        )
        .expect("begins");
    for round in 0..3 {
        change(connection, round).expect("changes");
    }
    let before = contents(connection);
    let file = File::open(&path).expect("opens");
    let lock = Locked::get(&file, LockFor::Reading, Duration::ZERO).expect("locks");
    let size = file.metadata().expect("there").len();
    let (store, _) = CommittedStore::open(file).expect("a database");
    let reader = Opened::new(Box::new(store), OpenFlags::SQLITE_OPEN_READ_ONLY).expect("opens");
    let writer = std::thread::spawn(move || {
        change(opened.connection().expect("connected"), 3).expect("changes");
        contents(opened.connection().expect("connected"))
    });
    // Everything but the pages in their places is written meanwhile.
    let begun = std::time::Instant::now();
    let changed = || std::fs::metadata(&path).expect("there").len() != size;
    while !changed() || begun.elapsed() < Duration::from_millis(100) {
        assert!(begun.elapsed() < PATIENCE, "nothing is written");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(contents(reader.connection().expect("connected")), before);
    drop((reader, lock));
    let after = writer.join().expect("writes");
    assert_eq!(read(&path), after);
}
