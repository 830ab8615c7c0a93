//! The tables of a capture. `docs/capture.md` says what they mean.

use std::collections::BTreeMap;

/// `application_id` of a capture: `hold` in ASCII.
pub const APPLICATION_ID: u32 = 0x686f_6c64;

/// `user_version`: the version of the tables. It rises whenever an older holdup could not read them.
pub const VERSION: u32 = 1;

/// The tables, each in one statement. What stands in a capture must be this, letter by letter: a
/// table that was made otherwise could compute its columns.
pub(super) const TABLES: &[(&str, &str)] = &[
    (
        "capture",
        "CREATE TABLE capture (
  id INTEGER PRIMARY KEY,
  tool TEXT NOT NULL,
  tool_version TEXT NOT NULL,
  kernel TEXT NOT NULL,
  cpus INTEGER NOT NULL,
  started_at REAL NOT NULL,
  start INTEGER NOT NULL,
  min_block INTEGER NOT NULL,
  long_poll INTEGER NOT NULL,
  sample_period INTEGER,
  calls_measured INTEGER NOT NULL,
  panics_counted INTEGER NOT NULL,
  ended TEXT,
  dropped_intervals INTEGER NOT NULL,
  dropped_until INTEGER
)",
    ),
    (
        "processes",
        "CREATE TABLE processes (
  id INTEGER PRIMARY KEY,
  pid INTEGER NOT NULL,
  exe TEXT NOT NULL,
  build_id TEXT,
  cmdline TEXT NOT NULL,
  tokio_version TEXT,
  tokio TEXT NOT NULL,
  parent INTEGER,
  earlier TEXT NOT NULL,
  ended TEXT,
  has_symbols INTEGER NOT NULL,
  has_lines INTEGER NOT NULL,
  panic_probes TEXT
)",
    ),
    (
        "threads",
        "CREATE TABLE threads (
  id INTEGER PRIMARY KEY,
  process INTEGER NOT NULL,
  tid INTEGER NOT NULL,
  name TEXT
)",
    ),
    (
        "frames",
        "CREATE TABLE frames (
  id INTEGER PRIMARY KEY,
  function TEXT NOT NULL,
  file TEXT,
  line INTEGER,
  module TEXT,
  space TEXT NOT NULL,
  naming TEXT NOT NULL,
  origin TEXT NOT NULL,
  inlined INTEGER NOT NULL,
  address INTEGER NOT NULL,
  function_start INTEGER,
  build_id TEXT,
  module_address INTEGER
)",
    ),
    (
        "stacks",
        "CREATE TABLE stacks (
  id INTEGER PRIMARY KEY,
  process INTEGER NOT NULL,
  state TEXT NOT NULL,
  role TEXT NOT NULL,
  rule TEXT NOT NULL,
  deciding_frame INTEGER,
  task_frame INTEGER,
  frames TEXT NOT NULL,
  kernel_frames TEXT NOT NULL,
  truncated TEXT,
  pointer_steps INTEGER NOT NULL,
  syscall INTEGER,
  args TEXT,
  runtime INTEGER,
  stopped_by TEXT
)",
    ),
    (
        "objects",
        "CREATE TABLE objects (
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  fd INTEGER,
  many INTEGER NOT NULL
)",
    ),
    (
        "wakers",
        "CREATE TABLE wakers (
  id INTEGER PRIMARY KEY,
  pid INTEGER NOT NULL,
  tid INTEGER NOT NULL,
  name TEXT NOT NULL
)",
    ),
    (
        "intervals",
        "CREATE TABLE intervals (
  id INTEGER PRIMARY KEY,
  began INTEGER NOT NULL,
  ended INTEGER NOT NULL,
  losses TEXT NOT NULL,
  classified TEXT NOT NULL,
  throttling TEXT NOT NULL
)",
    ),
    (
        "thread_times",
        "CREATE TABLE thread_times (
  id INTEGER PRIMARY KEY,
  interval INTEGER NOT NULL,
  thread INTEGER NOT NULL,
  lived INTEGER NOT NULL,
  until INTEGER NOT NULL,
  running INTEGER NOT NULL,
  runnable INTEGER NOT NULL,
  blocked INTEGER NOT NULL,
  waits INTEGER NOT NULL,
  in_calls INTEGER NOT NULL
)",
    ),
    (
        "sums",
        "CREATE TABLE sums (
  id INTEGER PRIMARY KEY,
  interval INTEGER NOT NULL,
  thread INTEGER NOT NULL,
  stack INTEGER NOT NULL,
  object INTEGER,
  waits INTEGER NOT NULL,
  blocked INTEGER NOT NULL,
  runqueue INTEGER NOT NULL,
  longest INTEGER NOT NULL,
  histogram TEXT NOT NULL
)",
    ),
    (
        "waits",
        "CREATE TABLE waits (
  id INTEGER PRIMARY KEY,
  interval INTEGER NOT NULL,
  thread INTEGER NOT NULL,
  stack INTEGER NOT NULL,
  object INTEGER,
  began INTEGER NOT NULL,
  woken INTEGER NOT NULL,
  ended INTEGER NOT NULL,
  waker INTEGER,
  waker_stack INTEGER,
  task INTEGER
)",
    ),
    (
        "open_waits",
        "CREATE TABLE open_waits (
  id INTEGER PRIMARY KEY,
  interval INTEGER NOT NULL,
  carried INTEGER NOT NULL,
  thread INTEGER NOT NULL,
  stack INTEGER NOT NULL,
  began_for INTEGER,
  began INTEGER NOT NULL,
  woken INTEGER,
  before_recording INTEGER NOT NULL,
  object TEXT,
  holder TEXT,
  task INTEGER
)",
    ),
    (
        "samples",
        "CREATE TABLE samples (
  id INTEGER PRIMARY KEY,
  interval INTEGER NOT NULL,
  thread INTEGER NOT NULL,
  stack INTEGER NOT NULL,
  samples INTEGER NOT NULL
)",
    ),
    (
        "polls",
        "CREATE TABLE polls (
  id INTEGER PRIMARY KEY,
  interval INTEGER NOT NULL,
  thread INTEGER NOT NULL,
  stack INTEGER NOT NULL,
  task INTEGER,
  began INTEGER NOT NULL,
  ended INTEGER NOT NULL,
  blocked INTEGER NOT NULL,
  runqueue INTEGER NOT NULL,
  running INTEGER NOT NULL,
  waits INTEGER NOT NULL,
  samples INTEGER NOT NULL,
  queued INTEGER,
  queued_in_slot INTEGER,
  evidence TEXT NOT NULL
)",
    ),
    (
        "driver_gaps",
        "CREATE TABLE driver_gaps (
  id INTEGER PRIMARY KEY,
  interval INTEGER NOT NULL,
  thread INTEGER NOT NULL,
  began INTEGER NOT NULL,
  ended INTEGER NOT NULL
)",
    ),
    (
        "calls",
        "CREATE TABLE calls (
  id INTEGER PRIMARY KEY,
  interval INTEGER NOT NULL,
  thread INTEGER NOT NULL,
  stack INTEGER NOT NULL,
  object INTEGER,
  calls INTEGER NOT NULL,
  on_cpu INTEGER NOT NULL,
  wall INTEGER NOT NULL,
  longest INTEGER NOT NULL
)",
    ),
    (
        "panics",
        "CREATE TABLE panics (
  id INTEGER PRIMARY KEY,
  interval INTEGER NOT NULL,
  thread INTEGER NOT NULL,
  stack INTEGER NOT NULL,
  panics INTEGER NOT NULL,
  last INTEGER NOT NULL,
  task INTEGER
)",
    ),
];

/// For people who look in with `sqlite3`; holdup itself never reads it.
pub(super) const VIEW: &str = "CREATE VIEW stack_frames AS
  SELECT stacks.id AS stack, list.key AS depth, frames.*
  FROM stacks, json_each(stacks.frames) AS list, frames
  WHERE frames.id = list.value";

/// The tables whose rows belong to an interval each.
pub(super) const BY_INTERVAL: [&str; 9] = [
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

/// What stands in `sqlite_schema` of each table, by its name.
pub(super) fn definitions() -> BTreeMap<&'static str, &'static str> {
    TABLES.iter().copied().collect()
}
