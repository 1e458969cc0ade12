//! `pgdrain migrate report`: the account of a run, on one page.

use clap::Args;

use super::arguments::Asking;
use super::client::path;
use super::exit::Exit;
use crate::runner::account::{Account, html, markdown};

#[derive(Args, Debug)]
pub(super) struct Accounting {
    /// The database.
    #[arg(value_name = "DB")]
    database: String,
    /// The run; the last one if it is not said.
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// As one file of HTML that needs no other.
    #[arg(long, conflicts_with_all = ["markdown", "json"])]
    html: bool,
    /// As Markdown, which it is without --html or --json as well.
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    #[command(flatten)]
    asking: Asking,
}

impl Accounting {
    pub(super) async fn show(self) -> anyhow::Result<Exit> {
        let mut path = path(&["v1", "databases", &self.database, "migrations", "report"]);
        if let Some(run) = &self.run {
            let run: String = url::form_urlencoded::byte_serialize(run.as_bytes()).collect();
            path += &format!("?run={run}");
        }
        let account: Account = self.asking.client()?.get(&path).await?;
        let page = match self.html {
            true => html,
            // What a terminal shows as it is.
            false => markdown,
        };
        self.asking.format().print(&account, page)?;
        Ok(Exit::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        accounting: Accounting,
    }

    #[test]
    fn one_form_is_chosen() {
        let parsed = |line: &[&str]| Line::try_parse_from([&["report", "shop"], line].concat());
        let run = |line: &[&str]| parsed(line).map(|it| it.accounting.run).ok().flatten();
        assert_eq!(run(&["r1", "--html"]), Some("r1".to_owned()));
        assert!(parsed(&["--markdown"]).is_ok());
        for line in [
            ["--html", "--markdown"],
            ["--html", "--json"],
            ["--markdown", "--json"],
        ] {
            assert!(parsed(&line).is_err(), "{line:?}");
        }
    }
}
