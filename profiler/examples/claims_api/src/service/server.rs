//! From start to a graceful end.

use crate::cli::Args;
use crate::routes;
use anyhow::Context as _;
use axum::Router;
use claims_api::app::App;
use claims_api::upstream::GatewayProcess;
use std::future::Future;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

/// How long open connections may take to end after the order to stop.
const GRACE: Duration = Duration::from_secs(5);

/// Serves until SIGTERM, Ctrl-C or, if asked for, the end of standard input.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let data_dir = DataDir::new(args.data_dir.as_deref())?;
    let upstream = GatewayProcess::start(args.fast_gateway)?;
    let app = Arc::new(App::new(
        &data_dir.path(),
        upstream.gateway(),
        &args.directory_host,
    )?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(args.workers.into())
        .enable_all()
        .build()?;
    let served = runtime.block_on(serve(routes::router(app, args.repaired), args));
    runtime.shutdown_timeout(GRACE);
    served
}

async fn serve(router: Router, args: &Args) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let (addr, pid) = (listener.local_addr()?, std::process::id());
    writeln!(io::stdout(), "listening on {addr} pid={pid}")?;

    let (stop, stopped) = watch::channel(false);
    let order = order_to_stop(args.exit_with_stdin)?;
    tokio::spawn(async move {
        order.await;
        stop.send(true)
    });
    let requests = axum::serve(listener, router).with_graceful_shutdown(when_set(stopped.clone()));
    let out_of_patience = async {
        when_set(stopped).await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        end = requests => end?,
        () = out_of_patience => eprintln!("claims_api: gave up on connections that were still open"),
    }
    Ok(())
}

async fn when_set(mut flag: watch::Receiver<bool>) {
    // An error means that the sender is gone, and that is a reason to stop as well.
    let _ = flag.wait_for(|set| *set).await;
}

fn order_to_stop(exit_with_stdin: bool) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stdin_closed = exit_with_stdin.then(stdin_closed);
    Ok(async move {
        let no_more_stdin = async {
            match stdin_closed {
                Some(closed) => closed.await.unwrap_or_default(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
            () = no_more_stdin => (),
        }
    })
}

/// Reads on a plain thread: tokio's standard input would keep the runtime from ending.
fn stdin_closed() -> oneshot::Receiver<()> {
    let (closed, wait) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        closed.send(())
    });
    wait
}

/// Where the files go: a folder that the caller keeps, or one that ends with the service.
enum DataDir {
    Kept(PathBuf),
    Temporary(TempDir),
}

impl DataDir {
    fn new(wanted: Option<&std::path::Path>) -> anyhow::Result<DataDir> {
        match wanted {
            Some(path) => {
                std::fs::create_dir_all(path)
                    .with_context(|| format!("cannot create {}", path.display()))?;
                Ok(DataDir::Kept(path.to_owned()))
            }
            None => {
                let dir = tempfile::Builder::new().prefix("claims_api-").tempdir()?;
                Ok(DataDir::Temporary(dir))
            }
        }
    }

    fn path(&self) -> PathBuf {
        match self {
            DataDir::Kept(path) => path.clone(),
            DataDir::Temporary(dir) => dir.path().to_owned(),
        }
    }
}
