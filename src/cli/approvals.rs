//! `pgdrain migrate ack`: what people have to say about a run.

use clap::Args;
use hyper::Method;

use super::arguments::{Asking, operator};
use super::client::{Patience, path};
use super::exit::Exit;
use super::output::plain;
use crate::admin::types::{Acknowledged, CancelRequest};

#[derive(Args, Debug)]
pub(super) struct Acknowledging {
    /// The migration's run, as its messages name it.
    #[arg(value_name = "RUN")]
    run: String,
    #[command(flatten)]
    asking: Asking,
}

impl Acknowledging {
    pub(super) async fn ask(self) -> anyhow::Result<Exit> {
        let path = path(&["v1", "migrations", &self.run, "ack"]);
        let request = CancelRequest {
            by: Some(operator()),
        };
        let done: Acknowledged = self
            .asking
            .client()?
            .send(Method::POST, &path, &request, Patience::Short)
            .await?;
        self.asking.format().print(&done, |done| {
            format!("{} looks after run {}", plain(&done.by), plain(&done.id))
        })?;
        Ok(Exit::SUCCESS)
    }
}
