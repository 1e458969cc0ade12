//! The last minutes of databases: `pgdrain status --pace`.

use serde::Serialize;

use super::client::{Client, ClientError, path};
use super::describe;
use super::output::{millis, plain, wrapped};
use crate::admin::types::{PaceView, Status};

/// How everything is, and how the last minutes were.
#[derive(Debug, Serialize)]
pub(super) struct Paced {
    #[serde(flatten)]
    pub(super) status: Status,
    pace: Vec<PaceView>,
}

impl Paced {
    /// Asks for both.
    pub(super) async fn ask(client: &Client) -> Result<Paced, ClientError> {
        let status: Status = client.get(&path(&["v1", "status"])).await?;
        let mut pace = Vec::new();
        for database in &status.databases {
            let path = path(&["v1", "databases", &database.database, "pace"]);
            pace.push(client.get(&path).await?);
        }
        Ok(Paced { status, pace })
    }
}

/// The status, and below it a sentence for each database.
pub(super) fn described(paced: &Paced) -> String {
    let mut text = describe::status(&paced.status);
    for pace in &paced.pace {
        let sentence = format!("{}: {}", plain(&pace.database), sentence(pace));
        text += &format!("\n\n{}", wrapped(&sentence));
    }
    text
}

fn sentence(pace: &PaceView) -> String {
    let looks = u64::try_from(pace.running.len()).unwrap_or(0);
    let most = |values: &mut dyn Iterator<Item = u64>| values.max().unwrap_or(0);
    let (now, running) = (pace.running.last(), &pace.running);
    let rate = match rate(pace) {
        Some((mean, highest)) => {
            format!("{mean:.1} transactions a second (at most {highest:.1})")
        }
        None => "transactions a second are not known yet".to_owned(),
    };
    format!(
        "in the last {}: {rate}; {} at once now (at most {}), the oldest ran for {}; at most {} \
         clients waited",
        millis(looks * pace.every_ms),
        now.copied().unwrap_or(0),
        most(&mut running.iter().map(|it| u64::from(*it))),
        millis(most(&mut pace.longest_ms.iter().copied())),
        most(&mut pace.waiting.iter().copied()),
    )
}

/// Transactions that ended in a second: over all looks, and between the two with the most.
fn rate(pace: &PaceView) -> Option<(f64, f64)> {
    let pairs = pace.transactions.windows(2);
    let ended: Vec<u64> = pairs
        .filter_map(|two| Some(two.last().copied()??.saturating_sub(two.first().copied()??)))
        .collect();
    let highest = ended.iter().max()?;
    let seconds = std::time::Duration::from_millis(pace.every_ms).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "rates for people")]
    let per_second = |count: u64, looks: usize| count as f64 / (seconds * looks as f64);
    Some((
        per_second(ended.iter().sum(), ended.len()),
        per_second(*highest, 1),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(transactions: &[Option<u64>]) -> PaceView {
        PaceView {
            database: "shop".to_owned(),
            every_ms: 5_000,
            running: vec![1, 4, 2],
            longest_ms: vec![10, 61_000, 0],
            waiting: vec![0, 3, 0],
            transactions: transactions.to_vec(),
            latency_us: vec![None; 3],
        }
    }

    #[test]
    fn the_last_minutes_are_one_sentence() {
        assert_eq!(
            sentence(&pace(&[Some(0), Some(50), Some(75)])),
            "in the last 15s: 7.5 transactions a second (at most 10.0); 2 at once now (at most 4), \
             the oldest ran for 1m 1s; at most 3 clients waited"
        );
        let unknown = sentence(&pace(&[Some(0), None, Some(75)]));
        assert!(unknown.contains("not known yet"), "{unknown}");
    }
}
