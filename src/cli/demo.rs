//! demo
#[derive(Debug, clap::Args)]
pub(super) struct DemoArguments {}
pub(super) async fn demo(_: &super::Context, _: &DemoArguments) -> Result<super::Exit, super::Failure> {
    Ok(super::Exit::Failed)
}
