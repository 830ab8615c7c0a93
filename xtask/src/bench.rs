//! x
/// x
#[derive(clap::Args, Debug)]
pub struct Args {}
/// x
pub fn run(_: &Args) -> anyhow::Result<()> {
    Ok(())
}
