//! The harness of the live tests: fixture programs with their own ground truth, recorded by the
//! `holdup` binary, and the checks that compare the two.

pub(crate) mod calls;
pub(crate) mod captures;
pub(crate) mod cargo;
#[path = "../hostile_support/cgroup.rs"]
#[allow(dead_code, reason = "shared with the hostile tests")]
pub(crate) mod cgroup;
pub(crate) mod check;
pub(crate) mod check_causes;
pub(crate) mod check_modes;
pub(crate) mod check_runtimes;
pub(crate) mod check_wakers;
pub(crate) mod containers;
pub(crate) mod cuts;
pub(crate) mod demo;
pub(crate) mod demo_teams;
pub(crate) mod dump;
pub(crate) mod fixture;
pub(crate) mod forks;
pub(crate) mod harm;
pub(crate) mod hostile;
pub(crate) mod intervals;
pub(crate) mod kernel_walk;
pub(crate) mod leftovers;
pub(crate) mod library;
pub(crate) mod life;
pub(crate) mod live_recording;
pub(crate) mod lookalike;
pub(crate) mod losses;
pub(crate) mod phases;
pub(crate) mod polls;
pub(crate) mod privilege;
pub(crate) mod rare;
pub(crate) mod record;
pub(crate) mod report;
pub(crate) mod restarts;
pub(crate) mod safety;
pub(crate) mod scarce;
pub(crate) mod selftest;
pub(crate) mod standstills;
pub(crate) mod stopped;
pub(crate) mod streams;
pub(crate) mod stripped;
pub(crate) mod top;
pub(crate) mod truth;
