//! Whose code a frame is: the application's, a third party's, or the machinery around it.

use super::crates::{dependency_crates, own_crate, registry_crate, vendored_crate};
use super::frame::Origin;
use super::path;
use std::collections::BTreeSet;

/// The runtime, and frameworks and glue that poll or call what the application wrote. A wait
/// below them is never theirs to answer for: the site must be the code that they call.
const RUNTIME: &[&str] = &[
    // tokio and what it stands on.
    "mio",
    "tokio",
    "tokio_rustls",
    "tokio_native_tls",
    "tokio_stream",
    "tokio_tungstenite",
    "tokio_util",
    // Combinators.
    "async_compat",
    "async_stream",
    "async_trait",
    "futures",
    "futures_concurrency",
    "futures_core",
    "futures_executor",
    "futures_io",
    "futures_lite",
    "futures_sink",
    "futures_task",
    "futures_util",
    "futures_timer",
    "async_recursion",
    "pin_project",
    "pin_project_lite",
    "pin_utils",
    "sync_wrapper",
    "try_lock",
    // Executors beside tokio: what they wait for, the future inside does.
    "async_executor",
    "async_global_executor",
    "async_io",
    "async_std",
    "async_task",
    "cassette",
    "extreme",
    "pollster",
    "smol",
    // Wrappers that a span puts around a future.
    "tracing",
    "tracing_attributes",
    "tracing_core",
    "tracing_futures",
    "tracing_log",
    "fastrace",
    // HTTP and RPC.
    "h2",
    "h3",
    "http_body",
    "http_body_util",
    "hyper",
    "hyper_rustls",
    "hyper_timeout",
    "hyper_tls",
    "hyper_util",
    "jsonrpsee",
    "quinn",
    "quinn_proto",
    "reqwest",
    "reqwest_middleware",
    "tonic",
    "tower",
    "tower_http",
    "tower_layer",
    "tower_service",
    "volo",
    // Web frameworks.
    "actix",
    "actix_codec",
    "actix_http",
    "actix_router",
    "actix_rt",
    "actix_server",
    "actix_service",
    "actix_utils",
    "actix_web",
    "axum",
    "axum_core",
    "axum_extra",
    "axum_server",
    "warp",
    "async_graphql",
    "gotham",
    "juniper",
    "ntex",
    "poem",
    "rocket",
    "rocket_http",
    "salvo",
    "salvo_core",
    "thruster",
    "tide",
    "viz",
];

/// The standard library, locks, channels, thread pools and thin wrappers of system calls: they
/// wait on behalf of their caller.
const LIBRARY: &[&str] = &[
    // Rust's own.
    "__rustc",
    "alloc",
    "backtrace",
    "compiler_builtins",
    "core",
    "panic_abort",
    "panic_unwind",
    "proc_macro",
    "std",
    "std_detect",
    "test",
    "unwind",
    // Locks.
    "arc_swap",
    "async_lock",
    "atomic_waker",
    "dashmap",
    "event_listener",
    "fs2",
    "fs4",
    "fd_lock",
    "lazy_static",
    "lock_api",
    "once_cell",
    "parking",
    "parking_lot",
    "parking_lot_core",
    "scc",
    "spin",
    "thread_local",
    // Channels.
    "async_channel",
    "crossbeam",
    "crossbeam_channel",
    "crossbeam_deque",
    "crossbeam_epoch",
    "crossbeam_queue",
    "crossbeam_utils",
    "flume",
    "futures_channel",
    "kanal",
    "oneshot",
    // Pools.
    "rayon",
    "rayon_core",
    "threadpool",
    // System calls.
    "libc",
    "linux_raw_sys",
    "nix",
    "rustix",
    "socket2",
];

/// Crates often found under a wait, for binaries whose paths were remapped, so that
/// [`dependency_crates`] finds none.
const DEPENDENCY: &[&str] = &[
    // Databases, caches, queues.
    "bb8",
    "deadpool",
    "deadpool_postgres",
    "deadpool_runtime",
    "diesel",
    "diesel_async",
    "duckdb",
    "elasticsearch",
    "fjall",
    "heed",
    "lapin",
    "ldap3",
    "libsqlite3_sys",
    "lmdb",
    "mongodb",
    "mysql",
    "mysql_async",
    "mysql_common",
    "native_db",
    "neo4rs",
    "odbc_api",
    "oracle",
    "postgres",
    "postgres_protocol",
    "r2d2",
    "r2d2_postgres",
    "r2d2_sqlite",
    "rdkafka",
    "redb",
    "redis",
    "rocksdb",
    "rusqlite",
    "scylla",
    "sea_orm",
    "sea_query",
    "sled",
    "sqlx",
    "sqlx_core",
    "sqlx_mysql",
    "sqlx_postgres",
    "sqlx_sqlite",
    "tantivy",
    "tiberius",
    "tokio_postgres",
    // Network clients that block, TLS, names.
    "attohttpc",
    "curl",
    "hickory_resolver",
    "isahc",
    "lettre",
    "minreq",
    "native_tls",
    "openssl",
    "ring",
    "rustls",
    "ssh2",
    "tungstenite",
    "ureq",
    // Logs and metrics.
    "env_logger",
    "fern",
    "flexi_logger",
    "log",
    "log4rs",
    "metrics",
    "opentelemetry",
    "opentelemetry_sdk",
    "prometheus",
    "sentry",
    "slog",
    "tracing_appender",
    "tracing_subscriber",
    // Data and files.
    "anyhow",
    "argon2",
    "bcrypt",
    "bytes",
    "config",
    "csv",
    "flate2",
    "git2",
    "image",
    "memmap2",
    "serde",
    "serde_json",
    "walkdir",
    "zstd",
];

/// What a binary tells of the crates in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crates {
    /// The crate that the binary is named after: the application's, whatever the tables say of
    /// a crate of that name.
    pub own: Option<String>,
    /// Third-party crates, see [`dependency_crates`].
    pub dependencies: BTreeSet<String>,
}

impl Crates {
    /// Of the binary with this file name and this content.
    #[must_use]
    pub fn of_binary(file_name: &str, image: &[u8]) -> Crates {
        Crates {
            own: own_crate(file_name),
            dependencies: dependency_crates(image),
        }
    }

    fn origin(&self, krate: &str) -> Origin {
        if self.own.as_deref() == Some(krate) {
            Origin::Application
        } else if RUNTIME.contains(&krate) {
            Origin::Runtime
        } else if LIBRARY.contains(&krate) {
            Origin::Library
        } else if DEPENDENCY.contains(&krate) || self.dependencies.contains(krate) {
            Origin::Dependency
        } else {
            Origin::Application
        }
    }
}

/// Whose code a named user frame is.
///
/// `function` is demangled, `file` the source file if line tables have it. A function without
/// a crate in its name and without a file is C: [`Origin::System`].
#[must_use]
pub fn origin(function: &str, file: Option<&str>, crates: &Crates) -> Origin {
    of_crate(path::defining_crate(function), file, crates)
}

/// The origin of code without a name, by the name of its module. Applications in Rust are executables, or
/// extensions that a host loads (`_opendal.abi3.so`); a library (`libffi.so.8`) is C, nearly always, unless it
/// may hold tokio.
pub(super) fn of_nameless(module: &str, may_hold_tokio: bool) -> Origin {
    let is_library =
        module.contains(".so") && (module.starts_with("lib") || module.starts_with("ld"));
    if is_library && !may_hold_tokio || module.contains("vdso") {
        Origin::System
    } else {
        Origin::Unknown
    }
}

/// As [`origin`], with the crate already taken from the symbol.
pub(super) fn of_crate(krate: Option<&str>, file: Option<&str>, crates: &Crates) -> Origin {
    let Some(krate) = krate else {
        // Line tables alone leave inlined functions no path: their file tells the crate.
        return match file {
            Some(file) if file.ends_with(".rs") => {
                of_file(file, crates).unwrap_or(Origin::Application)
            }
            _ => Origin::System,
        };
    };
    let origin = crates.origin(krate);
    if origin != Origin::Application || crates.own.as_deref() == Some(krate) {
        return origin;
    }
    match file.and_then(|file| of_file(file, crates)) {
        Some(Origin::Library) => Origin::Library,
        Some(_) => Origin::Dependency,
        None => origin,
    }
}

/// Whose a source file is; none where it is in none of cargo's and rustc's directories.
fn of_file(file: &str, crates: &Crates) -> Option<Origin> {
    // std, and the crates that it was built with, as rustc's own build remaps their paths.
    if file.starts_with("/rustc/") || file.starts_with("/rust/") {
        return Some(Origin::Library);
    }
    if file.contains("/lib/rustlib/src/rust/library/") {
        return Some(Origin::Library);
    }
    let third_party = |krate: &str| match crates.origin(krate) {
        Origin::Application if crates.own.as_deref() != Some(krate) => Origin::Dependency,
        origin => origin,
    };
    if let Some((_, path)) = file.split_once("/registry/src/") {
        return Some(registry_crate(path).map_or(Origin::Dependency, |krate| third_party(&krate)));
    }
    if file.contains("/git/checkouts/") {
        return Some(Origin::Dependency);
    }
    // What `cargo vendor` writes: `vendor/NAME/src/…`.
    if let Some((_, path)) = file.split_once("/vendor/") {
        return vendored_crate(path).map(|krate| third_party(&krate));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crates() -> Crates {
        Crates {
            own: Some("claims_api".to_owned()),
            dependencies: BTreeSet::from(["quick_ledger".to_owned(), "tokio".to_owned()]),
        }
    }

    #[test]
    fn code_without_a_name_is_an_extension_s_or_a_library_s() {
        for module in [
            "libc.so.6",
            "libffi.so.8.1.2",
            "ld-linux-x86-64.so.2",
            "[vdso]",
            "linux-vdso.so.1",
        ] {
            assert_eq!(of_nameless(module, false), Origin::System, "{module}");
        }
        for module in [
            "claims_api",
            "_opendal.abi3.so",
            "rnet.cpython-311-x86_64-linux-gnu.so",
            "ldap_proxy",
        ] {
            assert_eq!(of_nameless(module, false), Origin::Unknown, "{module}");
        }
        assert_eq!(of_nameless("liblance.so", true), Origin::Unknown);
    }

    #[test]
    fn by_name_alone() {
        for (function, expected) in [
            ("claims_api::main::{{closure}}", Origin::Application),
            ("claims_core::slow", Origin::Application),
            (
                "<claims_core::Job as core::future::future::Future>::poll",
                Origin::Application,
            ),
            (
                "<tokio::net::TcpStream as claims_core::Ext>::slow",
                Origin::Runtime,
            ),
            (
                "<F as axum::handler::Handler<(M,T1),S>>::call",
                Origin::Runtime,
            ),
            ("tokio::runtime::task::raw::poll", Origin::Runtime),
            (
                "<tracing::instrument::Instrumented<T> as core::future::future::Future>::poll",
                Origin::Runtime,
            ),
            ("std::thread::sleep", Origin::Library),
            (
                "parking_lot::raw_mutex::RawMutex::lock_slow",
                Origin::Library,
            ),
            (
                "<alloc::boxed::Box<F> as core::future::future::Future>::poll",
                Origin::Library,
            ),
            (
                "core::ptr::drop_in_place<claims_core::Guard>",
                Origin::Library,
            ),
            ("rusqlite::statement::Statement::query", Origin::Dependency),
            ("quick_ledger::append", Origin::Dependency),
            ("sqlite3_step", Origin::System),
            ("__libc_start_main", Origin::System),
            ("main", Origin::System),
        ] {
            assert_eq!(origin(function, None, &crates()), expected, "{function}");
        }
    }

    #[test]
    fn by_file_where_the_name_has_no_crate() {
        let registry = "/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f";
        for (function, file, expected) in [
            (
                "{async_fn#0}",
                "/srv/build/src/main.rs".to_owned(),
                Origin::Application,
            ),
            (
                "poll<F, S>",
                format!("{registry}/tokio-1.54.1/src/runtime/task/core.rs"),
                Origin::Runtime,
            ),
            (
                "lock_slow",
                format!("{registry}/parking_lot-0.12.3/src/raw_mutex.rs"),
                Origin::Library,
            ),
            (
                "step",
                format!("{registry}/never-seen-0.1.0/src/lib.rs"),
                Origin::Dependency,
            ),
            (
                "sleep",
                "/rustc/59807616e/library/std/src/thread/mod.rs".to_owned(),
                Origin::Library,
            ),
            (
                "x::y",
                format!("{registry}/never-seen-0.1.0/src/lib.rs"),
                Origin::Dependency,
            ),
            // `cargo install` builds the application itself out of the registry.
            (
                "claims_api::main",
                format!("{registry}/claims-api-0.1.0/src/main.rs"),
                Origin::Application,
            ),
            (
                "run",
                format!("{registry}/claims-api-0.1.0/src/main.rs"),
                Origin::Application,
            ),
            (
                "run",
                "/srv/build/vendor/rusqlite/src/lib.rs".to_owned(),
                Origin::Dependency,
            ),
            (
                "run",
                "/root/.cargo/git/checkouts/a-0/b/src/lib.rs".to_owned(),
                Origin::Dependency,
            ),
            (
                "sqlite3_step",
                "/srv/sqlite3/sqlite3.c".to_owned(),
                Origin::System,
            ),
        ] {
            assert_eq!(
                origin(function, Some(&file), &crates()),
                expected,
                "{function} {file}"
            );
        }
    }

    #[test]
    fn own_crate_wins_over_the_tables() {
        let crates = Crates {
            own: Some("redis".to_owned()),
            dependencies: BTreeSet::from(["redis".to_owned()]),
        };
        assert_eq!(origin("redis::main", None, &crates), Origin::Application);
    }

    #[test]
    fn tables_do_not_overlap() {
        let all: Vec<&str> = [RUNTIME, LIBRARY, DEPENDENCY].concat();
        let distinct: BTreeSet<&str> = all.iter().copied().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
