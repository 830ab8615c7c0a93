//! One guest, from its start to what it reported.

use super::disk;
use super::host::{Accel, Emulator};
use super::kernel::Kernel;
use super::monitor::Monitor;
use crate::process;
use crate::results::Results;
use crate::verified::Verified;
use anyhow::{Context as _, Result, bail};
use children::{Child, Stream};
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The guest's first program.
const INIT: &str = include_str!("guest/init.sh");

/// Lines of the console that are shown of a guest that failed.
const CONSOLE_LINES: usize = 80;

/// A guest that writes nothing for so long hangs: trials end by themselves long before.
const SILENCE: Duration = Duration::from_secs(420);

/// What a guest reported; see `guest/start.sh` for the lines that it writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Account {
    /// From the kernel's start until its first program, in the guest's seconds.
    pub(super) up: Option<f64>,
    pub(super) programs: Vec<Verified>,
    pub(super) refusal: Vec<String>,
    /// Exit statuses.
    pub(super) probe: Option<i32>,
    pub(super) live: Option<i32>,
    pub(super) record: Option<i32>,
    /// Whether it came to its own end.
    pub(super) ended: bool,
}

impl Account {
    fn parse(text: &str) -> Account {
        let mut account = Account::default();
        for line in text.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let status = || rest.split(' ').next()?.parse().ok();
            match word {
                "up" => account.up = rest.parse().ok(),
                "program" => account.programs.extend(Verified::parse(rest)),
                "refusal" => account.refusal.push(rest.to_owned()),
                "probe" => account.probe = status(),
                "live" => account.live = status(),
                "record" => account.record = status(),
                "end" => account.ended = true,
                _ => {}
            }
        }
        account
    }
}

/// How a guest's run went.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) account: Account,
    /// What the live tests came to.
    pub(super) results: Results,
    /// The whole run, on this machine's clock.
    pub(super) took: Duration,
    /// Why it was not run to its end.
    pub(super) trouble: Option<String>,
    /// Whether it wrote nothing any more.
    pub(super) hung: bool,
}

/// What all guests share.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    pub(super) emulator: &'a Emulator,
    pub(super) disk: &'a Path,
    /// Folder for logs.
    pub(super) work: &'a Path,
    pub(super) cpus: u8,
    pub(super) patience: Duration,
}

impl Machine<'_> {
    /// Boots the kernel, lets the guest do its job, and shows what it writes meanwhile.
    ///
    /// # Errors
    /// The guest cannot be started at all, or Ctrl-C came.
    pub(super) fn run(&self, kernel: &Kernel) -> Result<Outcome> {
        let logs = self.work.join(&kernel.release);
        fs::create_dir_all(&logs)
            .with_context(|| format!("cannot make the folder {}", logs.display()))?;
        let initrd = logs.join("initrd");
        fs::write(&initrd, first_root(kernel)?).context("cannot write the initrd")?;
        let (console, report) = (logs.join("console.log"), logs.join("report.log"));
        for log in [&console, &report] {
            fs::write(log, "").with_context(|| format!("cannot write to {}", log.display()))?;
        }

        let monitor = Monitor::at(self.work.join("monitor"));
        let mut command = self.command(kernel, &initrd, &console, &report);
        command.args(["-monitor", &monitor.option()]);
        eprintln!("+ {}", process::shown(&command));
        let began = Instant::now();
        let mut outcome = Outcome::default();
        let mut guest = Child::start("the guest", &mut command, Stream::Stdout)?;
        if let Err(error) = self.watch(&mut guest, began, &mut outcome) {
            outcome.trouble = Some(format!("{error:#}"));
        }
        if outcome.hung {
            monitor.show_where_it_hangs();
        }
        drop(guest);
        children::interrupt::check()?;
        outcome.took = began.elapsed();
        let text = fs::read(&report)
            .with_context(|| format!("cannot read the report {}", report.display()))?;
        outcome.account = Account::parse(&String::from_utf8_lossy(&text));
        if outcome.trouble.is_none() && !outcome.account.ended {
            outcome.trouble = Some("the guest died".to_owned());
        }
        if outcome.trouble.is_some() {
            show_end(&console);
        }
        Ok(outcome)
    }

    /// Shows the guest's output until it ends.
    fn watch(&self, guest: &mut Child, began: Instant, outcome: &mut Outcome) -> Result<()> {
        loop {
            let left = self
                .patience
                .checked_sub(began.elapsed())
                .with_context(|| format!("not done after {} s", self.patience.as_secs()))?;
            let asked = Instant::now();
            let line = guest.next_line(left.min(SILENCE));
            outcome.hung = line.is_err() && asked.elapsed() >= SILENCE;
            match line? {
                None => return Ok(()),
                Some(line) => {
                    println!("{line}");
                    outcome.results.read(&line);
                }
            }
        }
    }

    fn command(
        &self,
        kernel: &Kernel,
        initrd: &Path,
        console: &Path,
        report: &Path,
    ) -> std::process::Command {
        let mut command = process::detached(&self.emulator.program);
        command.args(["-nodefaults", "-no-user-config", "-no-reboot"]);
        command.args(["-display", "none", "-machine", "q35"]);
        // What holdup keeps for each CPU takes a few MiB.
        let memory = 1024 + 64 * u32::from(self.cpus.saturating_sub(2));
        command.args(["-smp", &self.cpus.to_string(), "-m", &format!("{memory}M")]);
        for folder in &self.emulator.firmware {
            command.arg("-L").arg(folder);
        }
        match self.emulator.accel {
            Accel::Kvm => command.args(["-accel", "kvm", "-cpu", "host"]),
            // Page tables of five levels would only make every miss dearer.
            Accel::Tcg => command.args(["-accel", "tcg,thread=multi", "-cpu", "max,la57=off"]),
        };
        command.arg("-kernel").arg(&kernel.image);
        command.arg("-initrd").arg(initrd);
        // The emulator's counter is reliable, but does not claim to be; the kernel's other clocks
        // are devices, and slow to read.
        command.args([
            "-append",
            "console=ttyS0 quiet panic=-1 tsc=reliable unknown_nmi_panic",
        ]);
        command.arg("-drive");
        command.arg(option(
            "file",
            self.disk,
            ",format=raw,if=none,id=disk,snapshot=on",
        ));
        command.args(["-device", "virtio-blk-pci,drive=disk"]);
        command.arg("-serial").arg(option_path("file:", console));
        command.args(["-serial", "stdio"]);
        command.arg("-serial").arg(option_path("file:", report));
        command
    }
}

/// `NAME=PATH` and more, with the path as QEMU's options want it.
fn option(name: &str, path: &Path, more: &str) -> String {
    format!("{name}={}{more}", path.to_string_lossy().replace(',', ",,"))
}

fn option_path(kind: &str, path: &Path) -> String {
    format!("{kind}{}", path.to_string_lossy())
}

/// The root file system on which the kernel starts: what mounting the disk takes. An archive of
/// cpio's "newc" kind, which is what kernels unpack.
fn first_root(kernel: &Kernel) -> Result<Vec<u8>> {
    const FOLDER: u32 = 0o040_755;
    const PROGRAM: u32 = 0o100_755;
    let read = |path: &PathBuf| {
        fs::read(path).with_context(|| format!("cannot read the file {}", path.display()))
    };
    let mut entries: Vec<(String, u32, Vec<u8>)> = ["bin", "dev", "modules", "root"]
        .map(|folder| (folder.to_owned(), FOLDER, Vec::new()))
        .into();
    entries.push(("bin/busybox".into(), PROGRAM, read(&disk::busybox())?));
    for module in &kernel.modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        entries.push((format!("modules/{name}"), PROGRAM, read(module)?));
    }
    entries.push(("init".into(), PROGRAM, INIT.into()));
    let inputs = entries.into_iter().map(|(name, mode, content)| {
        let entry = cpio::NewcBuilder::new(&name).mode(mode);
        (entry, Cursor::new(content))
    });
    cpio::write_cpio(inputs, Vec::new()).context("cannot make the initrd")
}

fn show_end(console: &Path) {
    let text = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(CONSOLE_LINES);
    eprintln!("the end of the guest's console, {}:", console.display());
    for line in &lines[first..] {
        eprintln!("  {}", line.trim_end().escape_debug());
    }
}

impl Outcome {
    /// Whether the guest may be tried once more where its CPUs are emulated.
    pub(super) fn may_be_chance(&self) -> bool {
        self.hung || self.only_trials_failed()
    }

    /// Whether all is as it should be but for trials that failed.
    fn only_trials_failed(&self) -> bool {
        let failed = self.results.tally.is_some_and(|tally| tally.failed > 0);
        self.trouble.is_none() && self.account.probe == Some(0) && failed
    }

    /// What is not as it should be: all programs load, all trials pass, and with the kernel's
    /// types hidden holdup says so and ends with status 69.
    ///
    /// # Errors
    /// What went wrong, in one line.
    pub(super) fn verdict(&self) -> Result<()> {
        let account = &self.account;
        if let Some(trouble) = &self.trouble {
            bail!("{trouble}");
        }
        if account.probe != Some(0) {
            bail!("`holdup probe` ended with status {}", shown(account.probe));
        }
        let tally = self
            .results
            .tally
            .context("the live tests came to no result")?;
        if tally.failed > 0 || account.live != Some(0) {
            bail!("{} trials failed", tally.failed);
        }
        if tally.skipped > 0 {
            bail!("{} trials were skipped", tally.skipped);
        }
        if tally.passed == 0 {
            bail!("no trial ran");
        }
        if let Some(flaky) = self.results.flaky_line()
            && self.results.is_too_flaky()
        {
            bail!("{flaky}");
        }
        if account.record != Some(69) {
            bail!(
                "without the kernel's types `holdup record` ended with status {}, not 69",
                shown(account.record)
            );
        }
        let text = account.refusal.join("\n");
        for part in ["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"] {
            if !text.contains(part) {
                bail!("the refusal does not say {part:?}: {text}");
            }
        }
        if text.contains("standard output") {
            bail!("the refusal comes with a report");
        }
        Ok(())
    }
}

fn shown(status: Option<i32>) -> String {
    status.map_or_else(|| "none".to_owned(), |status| status.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Tally;

    const PASSED: &str = "up 2.03\n\
        program sched_switch 12289 instructions verified in 42.490 ms\n\
        program snapshot unknown instructions verified in 0.100 ms\n\
        probe 0 3.10\nlive 0 60.00\n\
        refusal holdup: error: the kernel carries no type information (/sys/kernel/btf/vmlinux)\n\
        refusal   try: use a kernel built with CONFIG_DEBUG_INFO_BTF=y\n\
        record 69 62.10\nend\n";

    fn outcome(report: &str, tally: Option<(u64, u64, u64)>) -> Outcome {
        Outcome {
            account: Account::parse(report),
            results: tally.map_or_else(Results::default, |(passed, failed, skipped)| {
                Results::from(Tally {
                    passed,
                    failed,
                    skipped,
                })
            }),
            ..Outcome::default()
        }
    }

    #[test]
    fn a_report_is_read() {
        let account = Account::parse(PASSED);
        assert_eq!(account.up, Some(2.03));
        assert_eq!((account.probe, account.live), (Some(0), Some(0)));
        assert!(account.ended);
        assert_eq!(account.programs.len(), 2);
        assert_eq!(account.programs[0].instructions, Some(12289));
        assert_eq!(account.programs[1].instructions, None);
        assert_eq!(account.refusal.len(), 2);
    }

    #[test]
    fn only_what_is_expected_is_good() {
        let good = |report: &str, tally| outcome(report, tally).verdict().is_ok();
        let all = Some((9, 0, 0));
        assert!(good(PASSED, all));
        for tally in [None, Some((9, 1, 0)), Some((9, 0, 1)), Some((0, 0, 0))] {
            assert!(!good(PASSED, tally), "{tally:?}");
        }
        for (from, to) in [
            ("probe 0", "probe 69"),
            ("live 0", "live 101"),
            ("record 69", "record 1"),
            ("no type information", "(wrote to standard output)"),
            ("CONFIG_DEBUG_INFO_BTF", "it"),
        ] {
            assert!(!good(&PASSED.replace(from, to), all), "{to}");
        }
        let mut flaky = outcome(PASSED, all);
        flaky.results.flaky = vec!["a".into(); 2];
        assert!(flaky.verdict().is_ok());
        flaky.results.flaky.push("b".into());
        assert!(flaky.verdict().is_err());
    }
}
