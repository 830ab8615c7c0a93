//! The `cargo holdup` subcommand: everything is in the library.

fn main() {
    let exit = holdup::cli::run_cargo();
    // The one place where the program ends: nothing below here may skip destructors.
    std::process::exit(exit.code())
}
