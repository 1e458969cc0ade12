//! The command that caps how many transactions run at once.

use clap::Args;
use hyper::Method;

use super::arguments::{Asking, operator};
use super::client::{Patience, path};
use super::describe;
use super::exit::Exit;
use crate::admin::types::{CapRequest, CapResult};
use crate::config::{AskedCap, HumanDuration};

/// Let only so many transactions run at once; those above wait in the queue
///
/// What runs goes on. The cap ends by itself.
#[derive(Args, Debug)]
pub(super) struct Cap {
    /// The database.
    #[arg(value_name = "DB")]
    database: String,
    /// A number, a part such as 50% of the most that were seen at once in the last minute, or off.
    #[arg(value_name = "CAP")]
    cap: AskedCap,
    /// The cap's own end, from now, such as 5m.
    #[arg(long = "for", value_name = "TIME")]
    duration: Option<HumanDuration>,
    /// Why, for logs.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

impl Cap {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let request = CapRequest {
            transactions: self.cap,
            duration: self.duration,
            reason: self.reason,
            by: Some(operator()),
        };
        let path = path(&["v1", "databases", &self.database, "cap"]);
        let client = self.asking.client()?;
        let answer = client.send(Method::PUT, &path, &request, Patience::Short);
        let result: CapResult = answer.await?;
        self.asking.format().print(&result, describe::capped)?;
        Ok(Exit::SUCCESS)
    }
}
