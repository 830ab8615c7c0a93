//! holdup in containers, by the namespaces, the capabilities and the root that these have: the recipes of
//! `docs/rights.md` work, and what cannot work says so and what to do.

use super::fixture::Variant;
use super::privilege;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

type Outcome = Result<(), Failed>;
type Test = fn() -> Outcome;

/// What docker and podman leave to a container's root.
const LEFT: &str = "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,sys_chroot,setfcap";
/// What the recipe adds.
const ADDED: &str = "bpf,perfmon,sys_ptrace,dac_read_search,checkpoint_restore,syslog";

pub(crate) fn trials() -> Vec<Trial> {
    let trials: [(&str, Test); 7] = [
        ("processes_of_its_own", own_processes),
        ("the_processes_of_the_host", host_processes),
        ("debug_pod_of_a_node", debug_pod_of_a_node),
        ("debug_container_of_a_pod", debug_container_of_a_pod),
        ("too_few_capabilities", too_few),
        ("capabilities_of_the_file", capable),
        ("the_capability_that_names_need", without_syslog),
    ];
    let trials = trials.into_iter();
    trials
        .map(|(name, trial)| {
            Trial::ignorable_test(format!("containers::{name}"), move || {
                let missing = privilege::missing_root().or_else(no_setcap);
                privilege::unless_skipped(missing, trial)
            })
        })
        .collect()
}

/// A folder that has holdup, what it is linked against, and places for what is mounted.
fn root() -> Result<tempfile::TempDir, Failed> {
    let dir = tempfile::tempdir()?;
    for place in ["proc", "sys", "tmp", "host"] {
        fs::create_dir(dir.path().join(place))?;
    }
    let copy = |from: &Path, to: &Path| -> Result<(), Failed> {
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(from, to)?;
        Ok(())
    };
    let holdup = Path::new(env!("CARGO_BIN_EXE_holdup"));
    copy(holdup, &dir.path().join("holdup"))?;
    let setpriv = Path::new("/usr/bin/setpriv");
    copy(setpriv, &dir.path().join("setpriv"))?;
    for program in [holdup, setpriv] {
        let linked = Command::new("ldd").arg(program).output()?;
        for library in String::from_utf8_lossy(&linked.stdout).split_whitespace() {
            if let Some(inside) = library.strip_prefix('/') {
                copy(Path::new(library), &dir.path().join(inside))?;
            }
        }
    }
    Ok(dir)
}

/// Runs holdup in a container: with a root, mounts, a network and control groups of its own, and with the
/// capabilities `LEFT` and `added`. The processes are the host's where `of_host`.
fn contained(of_host: bool, added: &str, args: &[&str]) -> Result<Output, Failed> {
    let root = root()?;
    let kept = [LEFT, added].join(",").replace(',', ",+");
    let kept = format!("-all,+{}", kept.trim_end_matches(",+"));
    let script = "cd \"$0\" && mount -t proc proc proc && mount --rbind /sys sys && \
                  mount -o remount,ro,bind sys && caps=$1 && shift && \
                  exec chroot . /setpriv --bounding-set \"$caps\" /holdup \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--uts", "--ipc", "--net", "--cgroup"]);
    if !of_host {
        command.args(["--pid", "--fork", "--kill-child"]);
    }
    command
        .args(["sh", "-c", script])
        .arg(root.path())
        .arg(kept)
        .args(args)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    Ok(command.output()?)
}

/// Runs holdup as in what `kubectl debug --profile=sysadmin` asks for (kubectl 1.32): with all capabilities
/// and a root of its own. In the debug pod of a node with the node's processes, network and message queues, and
/// the node's files under `/host`; in the debug container of a pod with the pod's processes alone.
fn debugging(of_node: bool, args: &[&str]) -> Result<Output, Failed> {
    let root = root()?;
    let script = "cd \"$0\" && mount -t proc proc proc && mount --rbind /sys sys && \
                  mount --rbind / host && exec chroot . /holdup \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--uts", "--cgroup"]);
    if !of_node {
        command.args(["--ipc", "--net", "--pid", "--fork", "--kill-child"]);
    }
    command
        .args(["sh", "-c", script])
        .arg(root.path())
        .args(args)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    Ok(command.output()?)
}

/// Runs a copy of holdup that has these capabilities, as a user who has none.
fn capable_of(capabilities: &str, args: &[&str]) -> Result<Output, Failed> {
    let dir = tempfile::tempdir()?;
    let holdup = dir.path().join("holdup");
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755))?;
    fs::copy(env!("CARGO_BIN_EXE_holdup"), &holdup)?;
    let given = Command::new("setcap")
        .arg(format!("{capabilities}=ep"))
        .arg(&holdup)
        .output()?;
    if !given.status.success() {
        return Err(format!("{given:?}").into());
    }
    let nobody = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let mut command = Command::new("setpriv");
    command.args(nobody).arg(&holdup).args(args);
    command
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .current_dir("/");
    Ok(command.output()?)
}

fn no_setcap() -> Option<String> {
    let there = Command::new("setcap").arg("-h").output().is_ok();
    (!there).then(|| "no setcap; apt-get install libcap2-bin".into())
}

/// Nothing can be recorded there, and it is said what can be done.
fn own_processes() -> Outcome {
    for verb in ["record", "dump", "check"] {
        let output = contained(false, ADDED, &[verb, "-p", "1"])?;
        let said = [output.stdout.clone(), output.stderr.clone()].concat();
        let said = String::from_utf8_lossy(&said);
        if output.status.code() != Some(77)
            || !said.contains("container with its own process ids")
            || !said.contains("--pid=host")
        {
            return Err(format!("{verb}: {output:?}").into());
        }
    }
    Ok(())
}

/// With the host's processes and the capabilities of the recipe all is seen as from the host: also of a
/// program of another user's, whose files are not there in the container.
fn host_processes() -> Outcome {
    let mut fixture = Variant::DEFAULT.start("stuck-parking-lot")?;
    let pid = fixture.pid().to_string();
    let dump = contained(true, ADDED, &["dump", "-p", &pid, "-f", "json"])?;
    let record = contained(
        true,
        ADDED,
        &["record", "-d", "1s", "-p", &pid, "-f", "json"],
    )?;
    let check = contained(true, ADDED, &["check", "-p", &pid, "-f", "json"])?;
    fixture.go()?;
    fixture.finish()?;
    let json = |output: &Output| -> Result<Value, Failed> {
        let json = serde_json::from_slice(&output.stdout);
        json.map_err(|error| format!("{error}: {output:?}").into())
    };
    let mut wrong = Vec::new();
    for (output, code) in [(&dump, 4), (&record, 0)] {
        let json = json(output)?;
        let named = json.to_string().contains("stuck_by_parking_lot");
        if output.status.code() != Some(code) || !named || json["verdict"]["kind"] != "wedged" {
            wrong.push(format!("{output:?}"));
        }
    }
    let check = json(&check)?;
    let unmet = check["requirements"].as_array().into_iter().flatten();
    let unmet: Vec<&Value> = unmet
        .filter(|one| one["state"] != "ok" && one["area"] == "permission")
        .collect();
    if check["can_record"] != true || !unmet.is_empty() {
        wrong.push(format!("check: {unmet:?}, {}", check["exit"]));
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("\n").into()),
    }
}

/// The recipe for Kubernetes: what runs on the node is listed and recorded, and the report is on the node.
fn debug_pod_of_a_node() -> Outcome {
    let mut fixture = Variant::DEFAULT.start("stuck-parking-lot")?;
    let pid = fixture.pid().to_string();
    let listed = debugging(true, &["list", "-f", "json"])?;
    let dir = tempfile::tempdir()?;
    let on_node = dir.path().join("report.json");
    let inside = format!("/host{}", on_node.display());
    let record = ["record", "-d", "1s", "-p", &pid, "-o", &inside];
    let recorded = debugging(true, &record)?;
    fixture.go()?;
    fixture.finish()?;
    let list: Value = serde_json::from_slice(&listed.stdout)?;
    let is_it = |one: &Value| one["pid"].as_u64() == pid.parse().ok();
    let found = list["processes"]
        .as_array()
        .is_some_and(|all| all.iter().any(is_it));
    if !found {
        return Err(format!("not listed: {listed:?}").into());
    }
    let report = fs::read(&on_node).map_err(|error| format!("{error}: {recorded:?}"))?;
    let report: Value = serde_json::from_slice(&report)?;
    match report["verdict"]["kind"] == "wedged"
        && report.to_string().contains("stuck_by_parking_lot")
    {
        true => Ok(()),
        false => Err(format!("{recorded:?}").into()),
    }
}

/// All capabilities do not make up for the node's process ids.
fn debug_container_of_a_pod() -> Outcome {
    let output = debugging(false, &["record", "-d", "1s", "-p", "1"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() == Some(77) && said.contains("container with its own process ids") {
        true => Ok(()),
        false => Err(format!("{output:?}").into()),
    }
}

/// As docker runs it without more words.
fn too_few() -> Outcome {
    let fixture = Variant::DEFAULT.start("scenarios")?;
    let pid = fixture.pid().to_string();
    let output = contained(true, "", &["record", "-d", "1s", "-p", &pid])?;
    drop(fixture);
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() == Some(77) && said.contains("CAP_BPF") && said.contains("--cap-add")
    {
        true => Ok(()),
        false => Err(format!("{output:?}").into()),
    }
}

/// What `setcap` gives is enough for processes of other users, too.
fn capable() -> Outcome {
    let capabilities = format!("cap_{}", ADDED.replace(',', ",cap_"));
    let mut fixture = Variant::DEFAULT.start("stuck-parking-lot")?;
    let pid = fixture.pid().to_string();
    let dump = capable_of(&capabilities, &["dump", "-p", &pid])?;
    let record = capable_of(&capabilities, &["record", "-d", "1s", "-p", &pid])?;
    fixture.go()?;
    fixture.finish()?;
    for (output, code) in [(&dump, 4), (&record, 0)] {
        let said = String::from_utf8_lossy(&output.stdout);
        let warned = String::from_utf8_lossy(&output.stderr).contains("WARN");
        if output.status.code() != Some(code) || !said.contains("stuck_by_parking_lot") || warned {
            return Err(format!("{output:?}").into());
        }
    }
    Ok(())
}

/// Whoever sees no addresses of the kernel is told what hides them: the setting hides them from everybody
/// only where it is 2.
fn without_syslog() -> Outcome {
    let output = capable_of("cap_bpf,cap_perfmon", &["check", "-f", "json"])?;
    let check: Value = serde_json::from_slice(&output.stdout)?;
    let list = check["requirements"].as_array().into_iter().flatten();
    let of = |id: &str| list.clone().find(|one| one["id"] == id);
    let (capability, setting) = (of("cap-syslog"), of("kptr-restrict"));
    let value = fs::read_to_string("/proc/sys/kernel/kptr_restrict")?;
    let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid")?;
    let (value, paranoid): (i32, i32) = (value.trim().parse()?, paranoid.trim().parse()?);
    // As `kallsyms_show_value` of the kernel has it.
    let are_seen = value == 0 && paranoid <= 1;
    let state = |found: Option<&Value>| found.map(|one| one["state"].clone());
    let expected = |limited: bool| Some(Value::from(if limited { "limited" } else { "ok" }));
    if state(capability) == expected(!are_seen) && state(setting) == expected(value >= 2) {
        return Ok(());
    }
    Err(format!("kptr_restrict {value}, {paranoid}: {capability:?}, {setting:?}").into())
}
