//! The `holdup` program: everything is in the library.

fn main() {
    let exit = holdup::cli::run();
    // The one place where the program ends: nothing below here may skip destructors.
    std::process::exit(exit.code())
}
