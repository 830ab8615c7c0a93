//! The load: connections that ask, wait for the answer, pause, and ask again.

use crate::client::Client;
use crate::endpoints::{ALL, Dice, Endpoint, HEALTH, Mix};
use crate::latency::Latencies;
use anyhow::{bail, ensure};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// Claims and members that are asked for; it bounds what the service writes.
const NUMBERS: u64 = 500;
const HEALTH_EVERY: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(15);

/// Put a mixed load on the claims service and print the latency of each endpoint.
#[derive(clap::Parser, Debug)]
#[command(version)]
pub(crate) struct Args {
    /// The service's address, on this machine.
    #[arg(value_name = "ADDR")]
    addr: SocketAddr,

    /// Connections that ask at the same time.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=1000))]
    connections: u16,

    /// How long to ask, in seconds.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,

    /// Stop after this many requests.
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    max_requests: u64,

    /// Which endpoints to ask.
    #[arg(long, value_enum, default_value = "all")]
    mix: Mix,

    /// The mean pause of a connection between two requests, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pause: u64,

    /// Ask this many times a second, over all connections together, however long the answers take.
    /// There have to be connections enough.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000), conflicts_with = "pause")]
    rate: Option<u32>,
}

/// What all connections share.
#[derive(Debug)]
struct Plan {
    addr: SocketAddr,
    endpoints: Vec<Endpoint>,
    start: Instant,
    end: Instant,
    pause: u64,
    /// How long after each other a connection asks, where it does so at fixed times.
    every: Option<Duration>,
    requests_left: AtomicU64,
    told_to_stop: AtomicBool,
}

impl Args {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        ensure!(
            self.addr.ip().is_loopback(),
            "{} is not on this machine",
            self.addr
        );
        let every = self
            .rate
            .map(|rate| Duration::from_secs(1) * u32::from(self.connections) / rate);
        let start = Instant::now();
        let plan = Arc::new(Plan {
            addr: self.addr,
            endpoints: self.mix.endpoints(),
            start,
            end: start + Duration::from_secs(self.seconds),
            pause: self.pause,
            every,
            requests_left: AtomicU64::new(self.max_requests),
            told_to_stop: AtomicBool::new(false),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (mut health, by_endpoint) = runtime.block_on(ask_all(&plan, self.connections))?;
        let asked = start.elapsed();
        let mut all = Latencies::default();

        let mut out = io::stdout().lock();
        writeln!(
            out,
            "{:36} {:>8} {:>6} {:>9} {:>9} {:>9}",
            "endpoint", "requests", "errors", "p50 ms", "p99 ms", "max ms"
        )?;
        write_row(&mut out, HEALTH, &mut health)?;
        for (endpoint, mut latencies) in plan.endpoints.iter().zip(by_endpoint) {
            write_row(&mut out, *endpoint, &mut latencies)?;
            all.append(latencies);
        }
        write_row(&mut out, ALL, &mut all)?;
        let answered = (all.requests() - all.errors) as f64 / asked.as_secs_f64();
        writeln!(out, "{answered:.1} answers a second, /health aside")?;
        if health.requests() == health.errors {
            bail!("the service at {} never answered /health", self.addr);
        }
        Ok(())
    }
}

fn write_row(
    out: &mut impl io::Write,
    endpoint: Endpoint,
    latencies: &mut Latencies,
) -> io::Result<()> {
    let name = format!("{:4} {}", endpoint.method, endpoint.path);
    write!(
        out,
        "{name:36} {:>8} {:>6}",
        latencies.requests(),
        latencies.errors
    )?;
    match latencies.percentiles([50, 99, 100]) {
        Some(percentiles) => {
            for latency in percentiles {
                write!(out, " {:>9.2}", latency.as_secs_f64() * 1e3)?;
            }
        }
        None => write!(out, " {:>9} {:>9} {:>9}", "-", "-", "-")?,
    }
    writeln!(out)
}

/// The latencies of /health and of each endpoint of the plan.
async fn ask_all(
    plan: &Arc<Plan>,
    connections: u16,
) -> anyhow::Result<(Latencies, Vec<Latencies>)> {
    stop_at(SignalKind::interrupt(), plan)?;
    stop_at(SignalKind::terminate(), plan)?;
    let health = tokio::spawn(ask_health(Arc::clone(plan)));
    let mut tasks = JoinSet::new();
    for seed in 0..u32::from(connections) {
        let first = plan.every.unwrap_or_default() * seed / u32::from(connections);
        let first = plan.start + first;
        tasks.spawn(ask_the_mix(Arc::clone(plan), Dice::new(seed.into()), first));
    }
    let mut sums = vec![Latencies::default(); plan.endpoints.len()];
    while let Some(of_one) = tasks.join_next().await {
        for (sum, latencies) in sums.iter_mut().zip(of_one?) {
            sum.append(latencies);
        }
    }
    Ok((health.await?, sums))
}

async fn ask_health(plan: Arc<Plan>) -> Latencies {
    let mut client = Client::new(plan.addr);
    let mut latencies = Latencies::default();
    while plan.goes_on() && ask(&mut client, HEALTH, 0, &mut latencies).await.is_ok() {
        tokio::time::sleep(HEALTH_EVERY).await;
    }
    latencies
}

/// With fixed times the first request is at `first`; one that comes late moves no later one.
async fn ask_the_mix(plan: Arc<Plan>, mut dice: Dice, first: Instant) -> Vec<Latencies> {
    let mut next = first;
    let mut client = Client::new(plan.addr);
    let mut latencies = vec![Latencies::default(); plan.endpoints.len()];
    while plan.goes_on() && plan.take_request() {
        if let Some(every) = plan.every {
            tokio::time::sleep_until(next.into()).await;
            next += every;
        }
        let chosen = dice.choose(&plan.endpoints);
        let (Some(endpoint), Some(latencies)) =
            (plan.endpoints.get(chosen), latencies.get_mut(chosen))
        else {
            break;
        };
        if ask(&mut client, *endpoint, dice.below(NUMBERS), latencies)
            .await
            .is_err()
        {
            break;
        }
        if plan.every.is_none() {
            let pause = Duration::from_millis(dice.below(2 * plan.pause + 1));
            tokio::time::sleep(pause).await;
        }
    }
    latencies
}

/// Asks once. An error means that nobody listens any more: there is no point in going on.
async fn ask(
    client: &mut Client,
    endpoint: Endpoint,
    number: u64,
    latencies: &mut Latencies,
) -> io::Result<()> {
    let path = endpoint.path.replace("{}", &number.to_string());
    let asked = Instant::now();
    let answer = tokio::time::timeout(PATIENCE, client.request(endpoint.method, &path)).await;
    match answer {
        Ok(Ok(200)) => latencies.push(asked.elapsed()),
        Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => {
            latencies.errors += 1;
            return Err(e);
        }
        Ok(Ok(_) | Err(_)) | Err(_) => latencies.errors += 1,
    }
    Ok(())
}

/// The latencies up to now are printed then, too.
fn stop_at(kind: SignalKind, plan: &Arc<Plan>) -> io::Result<()> {
    let mut signals = signal(kind)?;
    let plan = Arc::clone(plan);
    tokio::spawn(async move {
        signals.recv().await;
        plan.told_to_stop.store(true, Ordering::Relaxed);
    });
    Ok(())
}

impl Plan {
    fn goes_on(&self) -> bool {
        Instant::now() < self.end && !self.told_to_stop.load(Ordering::Relaxed)
    }

    fn take_request(&self) -> bool {
        self.requests_left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok()
    }
}
