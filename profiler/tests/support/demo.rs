//! The demo service under a load of fixed rate: what its report says would be gained without its worst
//! site, and what is gained when that site is mended.

use super::privilege;
use super::record::ATTACHED;
use children::Child;
use libtest_mimic::Trial;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// For a program to begin, and to end.
const SOON: Duration = Duration::from_secs(30);
/// How long is recorded.
const SECONDS: u64 = 10;
/// Requests a second: as many as keep the four workers blocked for most of the time, and as they can
/// answer.
const RATE: u64 = 50;

/// Every trial.
pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::ignorable_test(
        "demo::mending_the_worst_site_brings_what_was_estimated",
        || {
            let missing = privilege::missing().or_else(not_built);
            privilege::unless_skipped(missing, || Ok(compare()?))
        },
    )]
}

/// A program of the workspace, beside the one that is tested.
pub(crate) fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_holdup")).with_file_name(name)
}

pub(crate) fn not_built() -> Option<String> {
    let missing = |name: &&str| !program(name).is_file();
    let missing = ["claims_api", "claims_load"].into_iter().find(missing)?;
    Some(format!("{missing} is not built: cargo build -p claims_api"))
}

fn compare() -> Result<(), String> {
    let before = recorded(&[])?;
    let after = recorded(&["--fast-gateway"])?;
    let starved = |of: &Told| of.json["runtimes"][0]["starved_ns"].as_u64().unwrap_or(0);
    let index = before.json["verdict"]["site"].as_u64().unwrap_or(u64::MAX);
    let worst = &before.json["sites"][usize::try_from(index).unwrap_or(usize::MAX)];
    let function = worst["function"].as_str().unwrap_or_default();
    let harm = worst["harm"][0]["starved_ns"].as_u64().unwrap_or(0);
    let gained = starved(&before).saturating_sub(starved(&after));
    let seconds = |time: u64| format!("{:.2} s", time as f64 / 1e9);
    println!(
        "starved {}, of that {} for {function}; without it {}",
        seconds(starved(&before)),
        seconds(harm),
        seconds(starved(&after))
    );
    let verdict = &before.json["verdict"];
    if verdict["kind"] != "starved" || !function.ends_with("::ask_blocking") {
        return Err(format!("the verdict is {verdict}"));
    }
    if starved(&before) < SECONDS * 1_000_000_000 / 20 {
        return Err(format!(
            "it was starved for {} only",
            seconds(starved(&before))
        ));
    }
    if gained.abs_diff(harm) > harm / 4 {
        return Err(format!(
            "{} were gained, not {}",
            seconds(gained),
            seconds(harm)
        ));
    }
    held_across_the_network(&before.json)?;
    told_in_the_text(&before.text)
}

/// Whoever reads the text learns the same: where the workers wait and for whom, and what to fix first.
fn told_in_the_text(text: &str) -> Result<(), String> {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let all = words(text);
    let first = all.split_once("Fix first: ").map(|(_, first)| first);
    let (place, rest) = first
        .and_then(|first| first.split_once(", "))
        .unwrap_or_default();
    if !place.contains("::ask_blocking") || !rest.contains(". Without it ") {
        return Err(format!("what to fix first is not told in\n{text}"));
    }
    // Each site: its line with a number, and what is told below it.
    let mut sites: Vec<Vec<&str>> = Vec::new();
    for line in text.lines() {
        let number = line
            .split_whitespace()
            .next()
            .and_then(|word| word.strip_suffix('.'));
        if number.is_some_and(|number| number.parse::<u32>().is_ok()) {
            sites.push(Vec::new());
        }
        if let Some(site) = sites.last_mut() {
            site.push(line);
        }
    }
    let told = |site: &Vec<&str>| {
        let (function, below) = site.split_first().unwrap_or((&"", &[]));
        let below = words(&below.join(" "));
        let meanwhile = below
            .split_once(" meanwhile ")
            .map(|(_, meanwhile)| meanwhile);
        let share = meanwhile.and_then(|text| text.split_once(" % in "));
        let (share, whom) = share.unwrap_or_default();
        function.contains("::price_under_std_mutex")
            && below.contains("lock")
            && share.parse::<f64>().is_ok_and(|share| share >= 80.0)
            && whom.contains("ask_blocking (network)")
    };
    match sites.iter().any(told) {
        true => Ok(()),
        false => Err(format!(
            "that the lock is held across a network call is not told in\n{text}"
        )),
    }
}

/// The lock of the prices is held while the gateway is asked.
fn held_across_the_network(report: &Value) -> Result<(), String> {
    let sites = report["sites"].as_array().ok_or("no sites")?;
    let is_of_prices = |site: &&Value| {
        let function = site["function"].as_str().unwrap_or_default();
        function.ends_with("::price_under_std_mutex") && site["cause"] == "lock"
    };
    let site = sites.iter().find(is_of_prices);
    let blame = &site.ok_or("nobody waited for the lock of the prices")?["blame"];
    let chains = blame["chains"].as_array().ok_or("nobody is to blame")?;
    let is_of_gateway = |chain: &&Value| {
        let last = chain["links"].as_array().and_then(|links| links.last());
        last.is_some_and(|link| {
            let function = link["function"].as_str().unwrap_or_default();
            function.ends_with("::ask_blocking") && link["cause"] == "network"
        })
    };
    let time = |chain: &Value| chain["total_ns"].as_u64().unwrap_or(0);
    let of_gateway: u64 = chains.iter().filter(is_of_gateway).map(time).sum();
    let all = blame["total_ns"].as_u64().unwrap_or(0);
    println!("{of_gateway} of {all} ns of the lock's waits were for the gateway");
    if of_gateway * 10 < all * 8 || all == 0 {
        return Err(format!("{of_gateway} of {all} ns for the gateway: {blame}"));
    }
    Ok(())
}

/// A report in two forms.
struct Told {
    json: Value,
    text: String,
}

/// The report of the service, started with `args`, under load.
fn recorded(args: &[&str]) -> Result<Told, String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut service = Command::new(program("claims_api"));
    service
        .args(["--exit-with-stdin", "--data-dir"])
        .arg(dir.path())
        .args(args)
        .env("RES_OPTIONS", "timeout:1 attempts:1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut service = Child::spawn("the demo service", &mut service)?;
    let mut lines = service.stdout()?;
    let line = lines.find("address", SOON, |line| line.starts_with("listening on "))?;
    let address = line.split(' ').nth(2).unwrap_or_default();
    let mut load = Command::new(program("claims_load"));
    load.arg(address)
        .args(["--mix", "mistakes", "--connections", "60"])
        .args(["--rate", &RATE.to_string()])
        .args(["--seconds", &(SECONDS + 60).to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let _load = Child::spawn("the load", &mut load)?;
    std::thread::sleep(Duration::from_secs(1));
    let [json, text] = ["report.json", "report.txt"].map(|name| dir.path().join(name));
    let mut holdup = Command::new(env!("CARGO_BIN_EXE_holdup"));
    holdup
        .args(["record", "-p", &service.id().to_string()])
        .args(["-d", &format!("{SECONDS}s"), "-o"])
        .arg(&json)
        .arg("-o")
        .arg(&text)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut holdup = Child::spawn("holdup", &mut holdup)?;
    let status = holdup.wait(ATTACHED + Duration::from_secs(SECONDS))?;
    if !status.success() {
        return Err(format!("holdup ended with {status}"));
    }
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| error.to_string());
    let json = serde_json::from_str(&read(&json)?).map_err(|error| error.to_string())?;
    Ok(Told {
        json,
        text: read(&text)?,
    })
}
