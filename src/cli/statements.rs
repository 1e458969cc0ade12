//! The command that shows what clients feel, statement by statement.

use std::collections::BTreeMap;

use clap::Args;
use hyper::Method;

use super::arguments::Asking;
use super::client::{Patience, path};
use super::exit::Exit;
use super::output::table;
use crate::admin::types::{MeasureRequest, StatementsView};
use crate::config::HumanDuration;

/// Show what clients feel, statement by statement: how often, how long, which errors
///
/// Nothing is measured until somebody asks for it (--measure, or a migration with measures); it ends by
/// itself. A unit is a query, or all that a client sends before it waits for an answer.
#[derive(Args, Debug)]
pub(super) struct Statements {
    /// The database.
    #[arg(value_name = "DB")]
    database: String,
    /// Measure from now on for this long, such as 10m.
    #[arg(long, value_name = "TIME", conflicts_with = "stop")]
    measure: Option<HumanDuration>,
    /// Time one in so many transactions; as configured if it is not said.
    #[arg(long, value_name = "N", requires = "measure", value_parser = clap::value_parser!(u32).range(1..))]
    one_in: Option<u32>,
    /// Measure no more.
    #[arg(long)]
    stop: bool,
    /// So many statements, those that took most time.
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,
    #[command(flatten)]
    asking: Asking,
}

impl Statements {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let path = path(&["v1", "databases", &self.database, "statements"]);
        let client = self.asking.client()?;
        let lasting = match self.stop {
            true => Some(HumanDuration(std::time::Duration::ZERO)),
            false => self.measure,
        };
        let view: StatementsView = match lasting {
            Some(lasting) => {
                let request = MeasureRequest {
                    lasting,
                    one_in: self.one_in,
                };
                let sent = client.send(Method::PUT, &path, &request, Patience::Short);
                sent.await?
            }
            None => client.get(&format!("{path}?limit={}", self.limit)).await?,
        };
        self.asking.format().print(&view, described)?;
        Ok(Exit::SUCCESS)
    }
}

fn described(view: &StatementsView) -> String {
    let measured = &view.measured;
    let until = match view.until {
        Some(until) => format!(
            "measured until {}, one in {} transactions",
            until.strftime("%Y-%m-%d %H:%M:%SZ"),
            measured.one_in
        ),
        None => "not measured now (pgdrain statements DB --measure 10m)".to_owned(),
    };
    let mut text = format!("{}: {until}", super::output::plain(&view.database));
    if measured.units == 0 {
        return text;
    }
    text += &format!(
        "\n{} units, {} timed, p50 {}, p99 {}, errors: {}",
        measured.units,
        measured.latency.count,
        ms(measured.latency.quantile_ms(0.5)),
        ms(measured.latency.quantile_ms(0.99)),
        errors(&measured.errors),
    );
    if measured.statements.is_empty() {
        return text;
    }
    let rows = measured.statements.iter().map(|it| {
        [
            it.latency.count.to_string(),
            ms(it.latency.mean_ms()),
            ms(it.latency.quantile_ms(0.99)),
            errors(&it.errors),
            it.text.clone(),
        ]
    });
    let header = ["TIMED", "MEAN", "P99", "ERRORS", "STATEMENT"];
    format!("{text}\n\n{}", table(header, rows))
}

fn ms(time: Option<f64>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{time:.2}ms"))
}

/// The most frequent ones.
fn errors(errors: &BTreeMap<String, u64>) -> String {
    let mut all: Vec<_> = errors.iter().collect();
    all.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let all: Vec<_> = all
        .iter()
        .take(3)
        .map(|(state, count)| format!("{state} {count}"))
        .collect();
    match all.is_empty() {
        true => "none".to_owned(),
        false => all.join(", "),
    }
}
