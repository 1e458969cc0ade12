//! Whether what is behind the files keeps to what was asked of it (document 3, "success criteria"): clients'
//! statements, the use of indexes, row-level security. Pure.

use super::catalog::CatalogComparison;
use super::rls::dearest;
use crate::config::Thresholds;
use crate::runner::rehearse::RlsCost;
use crate::runner::watcher::Breach;

/// What was found behind the files; what is absent nobody could measure.
#[derive(Clone, Copy, Debug)]
pub(in crate::runner) struct Found<'a> {
    pub(in crate::runner) degradation_percent: Option<f64>,
    pub(in crate::runner) catalog: Option<&'a CatalogComparison>,
    /// None as well if it could not be measured, for the reason.
    pub(in crate::runner) rls: Option<&'a [RlsCost]>,
    pub(in crate::runner) no_rls: Option<&'a str>,
}

/// Every limit that was not kept. What was not measured was not kept: unknown is never zero.
pub(in crate::runner) fn breaches_behind(found: &Found<'_>, limits: &Thresholds) -> Vec<Breach> {
    let all = [
        degradation(found, limits),
        index_use(found, limits),
        rls(found, limits),
    ];
    let all = all.into_iter().flatten();
    let breach = |(threshold, text): (&str, String)| Breach {
        threshold: threshold.to_owned(),
        file: None,
        text,
    };
    all.map(breach).collect()
}

type Broken = Option<(&'static str, String)>;

#[expect(clippy::cast_precision_loss, reason = "a percentage")]
fn degradation(found: &Found<'_>, limits: &Thresholds) -> Broken {
    let limit = limits.degradation_percent?;
    let text = match found.degradation_percent {
        None => format!(
            "whether clients' statements take longer is not known: too few of them ran both before and \
             behind the files where somebody measured; less than {limit} % longer is asked for"
        ),
        Some(percent) if percent >= limit as f64 => format!(
            "clients' statements take {percent:.1} % longer; less than {limit} % is asked for"
        ),
        Some(_) => return None,
    };
    Some(("degradation_percent", text))
}

#[expect(clippy::cast_precision_loss, reason = "a percentage")]
fn index_use(found: &Found<'_>, limits: &Thresholds) -> Broken {
    let limit = limits.index_use_percent?;
    let period = found.catalog.map(|it| &it.since);
    if period.is_some_and(|it| it.all_small) {
        // Nothing that an index would be used for.
        return None;
    }
    let text = match period.and_then(|it| it.index_use_percent) {
        None => format!(
            "how many scans are by an index is not known: there were too few behind the files; more than \
             {limit} % is asked for"
        ),
        Some(percent) if percent <= limit as f64 => {
            format!("{percent:.1} % of the scans are by an index; more than {limit} % is asked for")
        }
        Some(_) => return None,
    };
    Some(("index_use_percent", text))
}

fn rls(found: &Found<'_>, limits: &Thresholds) -> Broken {
    let limit = limits.rls?;
    let most = limit.as_secs_f64() * 1000.0;
    let limit = humantime::format_duration(limit);
    let text = match found.rls {
        None => format!(
            "what row-level security costs is not known: {}; less than {limit} is asked for",
            found.no_rls.unwrap_or("it was not measured")
        ),
        Some(costs) => {
            let dear = dearest(costs).filter(|it| *it >= most)?;
            let tables: Vec<_> = costs
                .iter()
                .filter(|it| it.as_role_ms - it.bypassing_ms >= most)
                .map(|it| it.table.as_str())
                .collect();
            format!(
                "row-level security costs a query {dear:.2} ms ({}); less than {limit} is asked for",
                tables.join(", ")
            )
        }
    };
    Some(("rls", text))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::runner::aftermath::catalog::Period;

    fn limits() -> Thresholds {
        Thresholds {
            degradation_percent: Some(3),
            index_use_percent: Some(90),
            rls: Some(Duration::from_millis(2)),
            rls_role: Some("app".to_owned()),
            ..Thresholds::default()
        }
    }

    fn catalog(index_use_percent: Option<f64>, all_small: bool) -> CatalogComparison {
        CatalogComparison {
            since: Period {
                index_use_percent,
                all_small,
                ..Period::default()
            },
            ..CatalogComparison::default()
        }
    }

    fn names(found: &Found<'_>, limits: &Thresholds) -> Vec<String> {
        let all = breaches_behind(found, limits).into_iter();
        all.map(|it| it.threshold).collect()
    }

    #[test]
    fn document_3_asks_for_less_than_three_percent_more_than_ninety_and_less_than_two_ms() {
        let cost = |ms| {
            vec![RlsCost {
                table: "public.t".to_owned(),
                bypassing_ms: 1.0,
                as_role_ms: 1.0 + ms,
            }]
        };
        for (slower, used, ms, expected) in [
            (2.9, 90.1, 1.9, vec![]),
            (
                3.0,
                90.0,
                2.0,
                vec!["degradation_percent", "index_use_percent", "rls"],
            ),
            (-5.0, 100.0, 0.0, vec![]),
        ] {
            let (catalog, cost) = (catalog(Some(used), false), cost(ms));
            let found = Found {
                degradation_percent: Some(slower),
                catalog: Some(&catalog),
                rls: Some(&cost),
                no_rls: None,
            };
            assert_eq!(names(&found, &limits()), expected);
            let none: [String; 0] = [];
            assert_eq!(names(&found, &Thresholds::default()), none);
        }
    }

    #[test]
    fn what_is_not_known_was_not_kept_unless_there_is_nothing_to_know() {
        let unknown = catalog(None, false);
        let found = Found {
            degradation_percent: None,
            catalog: Some(&unknown),
            rls: None,
            no_rls: Some("no such role"),
        };
        let all = breaches_behind(&found, &limits());
        assert_eq!(all.len(), 3);
        assert!(all[2].text.contains("no such role"), "{all:?}");
        // Small tables are not read by an index, and tables without policies have no cost of them.
        let small = catalog(None, true);
        let found = Found {
            degradation_percent: Some(0.0),
            catalog: Some(&small),
            rls: Some(&[]),
            no_rls: None,
        };
        assert!(breaches_behind(&found, &limits()).is_empty());
    }
}
