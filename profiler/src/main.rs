//! The `holdup` program: everything is in the library.

fn main() {
    let exit = holdup::cli::run();
    #[expect(clippy::exit, reason = "the one place where the program ends")]
    std::process::exit(exit.code())
}
