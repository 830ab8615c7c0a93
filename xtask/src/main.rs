//! `cargo xtask`: the chores of this repository.

fn main() -> std::process::ExitCode {
    xtask::cli::main()
}
