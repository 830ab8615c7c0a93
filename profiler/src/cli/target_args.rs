//! Which processes are meant: the same words for every verb.

use super::target_choice::TargetChoice;
use super::values;
use crate::process::{Selection, Selector};
use crate::units::Pid;
use clap::Args;
use std::ffi::OsString;

/// The group of these options: only one kind at a time.
pub(crate) const TARGET: &str = "target";

/// The option of users, which goes with those of that group but for ids and commands.
pub(crate) const USER: &str = "user";

#[derive(Clone, Debug, Default, Args)]
// That there is a target is left to the settings, which say it better than clap would.
// The user goes with the others, which exclude each other.
#[group(skip)]
pub(crate) struct TargetArgs {
    /// The process with this id, or several: -p 4711,4712
    #[arg(
        short,
        long,
        group = TARGET,
        value_name = "PID",
        value_parser = values::pid,
        value_delimiter = ',',
        allow_negative_numbers = true,
        help_heading = "Target"
    )]
    pub(crate) pid: Vec<Pid>,

    /// Every process with this name, or whose executable has it: its file name, or its path
    #[arg(short, long, group = TARGET, value_name = "NAME", value_parser = values::name, help_heading = "Target")]
    pub(crate) name: Vec<Selector>,

    /// Every process in this unit of systemd: claims.service
    #[arg(long, group = TARGET, value_name = "NAME", value_parser = values::unit, help_heading = "Target")]
    pub(crate) unit: Vec<Selector>,

    /// Every process in this control group, and in those below it: /system.slice/claims.service
    #[arg(long, group = TARGET, value_name = "PATH", value_parser = values::cgroup, help_heading = "Target")]
    pub(crate) cgroup: Vec<Selector>,

    /// Every process in the container whose id begins so, as docker ps shows it
    #[arg(long, group = TARGET, value_name = "ID", value_parser = values::container, help_heading = "Target")]
    pub(crate) container: Vec<Selector>,

    /// Of these only what this user started, by name or id; alone, every process of the user
    #[arg(
        long,
        value_name = "USER",
        value_parser = values::user,
        conflicts_with = "pid",
        help_heading = "Target"
    )]
    pub(crate) user: Option<u32>,
}

impl TargetArgs {
    /// What is meant; none where nothing is named.
    pub(crate) fn choice(self) -> Option<TargetChoice> {
        self.choice_or(Vec::new())
    }

    /// As [`TargetArgs::choice`], or a command that is to be started.
    pub(crate) fn choice_or(self, command: Vec<OsString>) -> Option<TargetChoice> {
        if !self.pid.is_empty() {
            return Some(TargetChoice::Pids(self.pid));
        }
        let selection = Selection {
            selectors: [self.name, self.unit, self.cgroup, self.container].concat(),
            user: self.user,
        };
        if !selection.is_empty() {
            return Some(TargetChoice::Selected(selection));
        }
        (!command.is_empty()).then_some(TargetChoice::Command(command))
    }
}
