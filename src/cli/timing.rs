//! Arguments that say when a migration begins.

use clap::Args;

use crate::config::HumanDuration;
use crate::runner::timing::When;

#[derive(Args, Clone, Debug, Default)]
pub(super) struct TimingArguments {
    /// Begin at this time: 2026-12-01T02:00:00Z, or the next 02:00 (UTC) or 02:00+01:00.
    #[arg(long, value_name = "TIME", conflicts_with = "between")]
    at: Option<String>,
    /// Begin between two times of the day, the present or the next such time: 02:00-04:00 (UTC), or
    /// 02:00-04:00+01:00.
    #[arg(long, value_name = "FROM-TO")]
    between: Option<String>,
    /// Begin when fewer transactions end in a second, of those that come through pgdrain.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    when_below: Option<u64>,
    /// For how long there have to be so few; 30s if it is not said.
    #[arg(long, value_name = "TIME", requires = "when_below")]
    quiet_for: Option<HumanDuration>,
    /// For how long that is waited for at most; 1h, or to the end of --between, if it is not said.
    #[arg(
        long,
        value_name = "TIME",
        requires = "when_below",
        conflicts_with = "between"
    )]
    within: Option<HumanDuration>,
}

impl TimingArguments {
    /// `None` is at once.
    pub(super) fn when(&self) -> Option<When> {
        let when = When {
            at: self.at.clone(),
            between: self.between.clone(),
            below: self.when_below,
            quiet_for: self.quiet_for,
            within: self.within,
        };
        (when != When::default()).then_some(when)
    }
}
