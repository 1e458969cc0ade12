//! When a run begins: at a time, between two times of the day, or when little goes on. Pure.
//!
//! Times of the day are UTC unless they say an offset. No rules of a time zone are applied: a night in
//! which clocks are changed has the offset that was written.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::config::HumanDuration;

const DAY: i64 = 24 * 3600;

/// How long quiet traffic is waited for, if nothing says when to give up.
const WITHIN: Duration = Duration::from_secs(3600);

/// For how long traffic has to be quiet, if it is not said.
const QUIET_FOR: Duration = Duration::from_secs(30);

/// When a run begins, as it is asked for; nothing is at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// `2026-12-01T02:00:00Z`, or the next `02:00`, `02:00+01:00`.
    #[serde(default)]
    pub at: Option<String>,
    /// `02:00-04:00`, `22:00-02:00+01:00`: the next such time, or the present one.
    #[serde(default)]
    pub between: Option<String>,
    /// Begins when fewer transactions end in a second, of those that come through this proxy.
    #[serde(default)]
    pub below: Option<u64>,
    /// For how long there have to be so few, without a break.
    #[serde(default)]
    pub quiet_for: Option<HumanDuration>,
    /// How long that is waited for at most; with `between` it is until its end.
    #[serde(default)]
    pub within: Option<HumanDuration>,
}

/// The same as moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Course {
    /// Not before this.
    pub(super) from: Timestamp,
    /// Not after this; `None` if nothing but time is waited for.
    pub(super) until: Option<Timestamp>,
    /// Transactions a second, and for how long there have to be fewer.
    pub(super) below: Option<(u64, Duration)>,
}

impl When {
    /// What is to be waited for, seen from `now`.
    ///
    /// # Errors
    /// In a sentence, what cannot be used.
    pub(super) fn course(&self, now: Timestamp) -> Result<Course, String> {
        let (from, end) = match (&self.at, &self.between) {
            (Some(_), Some(_)) => return Err("at and between do not go together".to_owned()),
            (Some(at), None) => (moment(at, now)?, None),
            (None, Some(between)) => {
                let (from, end) = next(between, now)?;
                (from, Some(end))
            }
            (None, None) => (now, None),
        };
        let below = self.below.map(|limit| {
            let quiet = self.quiet_for.map_or(QUIET_FOR, |it| it.0);
            (limit, quiet)
        });
        match below {
            None if self.quiet_for.is_some() || self.within.is_some() => {
                return Err("quiet_for and within are for below".to_owned());
            }
            Some((0, _)) => return Err("below must be at least 1".to_owned()),
            Some(_) if end.is_some() && self.within.is_some() => {
                return Err("within and between do not go together".to_owned());
            }
            Some(_) | None => {}
        }
        let within = self.within.map_or(WITHIN, |it| it.0);
        let until = match (end, below) {
            (Some(end), _) => Some(end),
            (None, Some(_)) => Some(plus(from, within)?),
            (None, None) => None,
        };
        Ok(Course { from, until, below })
    }
}

/// A moment, or the next time of the day.
fn moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let at = match text.parse::<Timestamp>() {
        Ok(at) => at,
        Err(_no_moment) => {
            let (clock, offset) = parted(text);
            let (seconds, offset) = (time_of_day(clock)?, offset_seconds(offset)?);
            let today = midnight(now, offset) + seconds;
            let next = if today < now.as_second() {
                today + DAY
            } else {
                today
            };
            second(next)?
        }
    };
    if at < now {
        return Err(format!("{text} has passed"));
    }
    Ok(at)
}

/// The present time between two times of the day, or the next.
fn next(text: &str, now: Timestamp) -> Result<(Timestamp, Timestamp), String> {
    let wrong = || format!("{text:?} is no time such as 02:00-04:00 or 22:00-02:00+01:00");
    let (first, rest) = text.split_once('-').ok_or_else(wrong)?;
    let (second_clock, offset) = parted(rest);
    let offset = offset_seconds(offset)?;
    let (from, to) = (time_of_day(first)?, time_of_day(second_clock)?);
    let length = (to - from).rem_euclid(DAY);
    if length == 0 {
        return Err(format!("{text:?} is no time at all"));
    }
    let today = midnight(now, offset);
    // What began yesterday may still last.
    let mut begins = [today - DAY, today, today + DAY]
        .into_iter()
        .map(|day| day + from);
    let begin = begins.find(|it| it + length > now.as_second());
    let begin = begin.ok_or_else(wrong)?;
    Ok((second(begin)?.max(now), second(begin + length)?))
}

/// The clock and what stands behind it: `Z`, `+01:00`, `-05:00`, or nothing.
fn parted(text: &str) -> (&str, &str) {
    let at = text.find(['Z', '+', '-']).unwrap_or(text.len());
    text.split_at(at)
}

fn time_of_day(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no time of the day such as 02:00");
    let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str, below: i64| {
        let digits = text.len() == 2 && text.bytes().all(|it| it.is_ascii_digit());
        let number: Option<i64> = text.parse().ok().filter(|_| digits);
        number.filter(|it| *it < below).ok_or_else(wrong)
    };
    Ok(number(hours, 24)? * 3600 + number(minutes, 60)? * 60)
}

fn offset_seconds(text: &str) -> Result<i64, String> {
    match text {
        "" | "Z" => Ok(0),
        text => match text.split_at(1) {
            ("+", rest) => time_of_day(rest),
            (_, rest) => Ok(-time_of_day(rest)?),
        },
    }
}

/// The last midnight where clocks are so many seconds before UTC.
fn midnight(now: Timestamp, offset: i64) -> i64 {
    (now.as_second() + offset).div_euclid(DAY) * DAY - offset
}

fn second(second: i64) -> Result<Timestamp, String> {
    Timestamp::from_second(second).map_err(|error| error.to_string())
}

fn plus(from: Timestamp, time: Duration) -> Result<Timestamp, String> {
    let time = SignedDuration::try_from(time).map_err(|error| error.to_string())?;
    from.checked_add(time).map_err(|error| error.to_string())
}

/// How long traffic has been quiet, from one look to the next.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quiet {
    /// How many transactions had ended at the last look, and when that was.
    last: Option<(u64, Duration)>,
    since: Option<Duration>,
}

impl Quiet {
    /// Takes a look: so many transactions have ended until `now`. Gives the transactions a second since
    /// the last look, and for how long there have been fewer than `limit`. What is not known is not quiet.
    pub(super) fn look(
        &mut self,
        ended: Option<u64>,
        now: Duration,
        limit: u64,
    ) -> Option<(f64, Duration)> {
        let last = self.last;
        self.last = ended.map(|ended| (ended, now));
        let rate = match (last, ended) {
            (Some((before, then)), Some(ended)) if now > then => {
                #[expect(clippy::cast_precision_loss, reason = "a rate for comparison")]
                let count = ended.saturating_sub(before) as f64;
                Some((count / (now - then).as_secs_f64(), then))
            }
            _ => None,
        };
        #[expect(clippy::cast_precision_loss, reason = "a rate for comparison")]
        let limit = limit as f64;
        match rate {
            Some((rate, then)) if rate < limit => {
                let since = *self.since.get_or_insert(then);
                Some((rate, now - since))
            }
            Some((rate, _)) => {
                self.since = None;
                Some((rate, Duration::ZERO))
            }
            None => {
                self.since = None;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect(text)
    }

    fn when(at: Option<&str>, between: Option<&str>) -> When {
        When {
            at: at.map(str::to_owned),
            between: between.map(str::to_owned),
            ..When::default()
        }
    }

    #[test]
    fn a_time_is_the_next_such_time() {
        let now = at("2026-11-22T01:30:00Z");
        for (text, expected) in [
            ("2026-12-01T02:00:00Z", "2026-12-01T02:00:00Z"),
            ("2026-11-22T02:30:00+01:00", "2026-11-22T01:30:00Z"),
            ("02:00", "2026-11-22T02:00:00Z"),
            ("01:30", "2026-11-22T01:30:00Z"),
            ("01:00Z", "2026-11-23T01:00:00Z"),
            ("02:00+01:00", "2026-11-23T01:00:00Z"),
            ("22:00-05:00", "2026-11-22T03:00:00Z"),
        ] {
            let course = when(Some(text), None).course(now).expect(text);
            assert_eq!((course.from, course.until), (at(expected), None), "{text}");
        }
        for text in [
            "2026-11-22T01:29:59Z",
            "25:00",
            "2:00",
            "02:60",
            "noon",
            "",
            "02:00+1",
        ] {
            assert!(when(Some(text), None).course(now).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_between_is_the_present_or_the_next() {
        let now = at("2026-11-22T01:30:00Z");
        for (text, from, until) in [
            (
                "02:00-04:00",
                "2026-11-22T02:00:00Z",
                "2026-11-22T04:00:00Z",
            ),
            (
                "01:00-02:00",
                "2026-11-22T01:30:00Z",
                "2026-11-22T02:00:00Z",
            ),
            (
                "23:00-02:00",
                "2026-11-22T01:30:00Z",
                "2026-11-22T02:00:00Z",
            ),
            (
                "23:00-01:00",
                "2026-11-22T23:00:00Z",
                "2026-11-23T01:00:00Z",
            ),
            (
                "01:00-01:30",
                "2026-11-23T01:00:00Z",
                "2026-11-23T01:30:00Z",
            ),
            (
                "02:00-04:00+01:00",
                "2026-11-22T01:30:00Z",
                "2026-11-22T03:00:00Z",
            ),
            (
                "20:00-21:00-05:00",
                "2026-11-22T01:30:00Z",
                "2026-11-22T02:00:00Z",
            ),
        ] {
            let course = when(None, Some(text)).course(now).expect(text);
            assert_eq!(
                (course.from, course.until),
                (at(from), Some(at(until))),
                "{text}"
            );
        }
        for text in ["02:00", "02:00-02:00", "02:00-24:00", "-", "a-b"] {
            assert!(when(None, Some(text)).course(now).is_err(), "{text}");
        }
        assert!(
            when(Some("02:00"), Some("02:00-04:00"))
                .course(now)
                .is_err()
        );
    }

    #[test]
    fn waiting_for_quiet_has_an_end() {
        let now = at("2026-11-22T01:30:00Z");
        let below = |between: Option<&str>, within: Option<u64>| When {
            below: Some(50),
            within: within.map(|it| HumanDuration(Duration::from_secs(it))),
            ..when(None, between)
        };
        let until = |when: When| when.course(now).expect("a course").until;
        assert_eq!(until(below(None, None)), Some(at("2026-11-22T02:30:00Z")));
        assert_eq!(
            until(below(None, Some(60))),
            Some(at("2026-11-22T01:31:00Z"))
        );
        let between = below(Some("01:00-02:00"), None);
        assert_eq!(until(between), Some(at("2026-11-22T02:00:00Z")));
        assert!(below(Some("01:00-02:00"), Some(60)).course(now).is_err());
        let nothing = When {
            below: Some(0),
            ..When::default()
        };
        assert!(nothing.course(now).is_err());
        let lonely = When {
            quiet_for: Some(HumanDuration(QUIET_FOR)),
            ..When::default()
        };
        assert!(lonely.course(now).is_err());
    }

    #[test]
    fn quiet_lasts_from_the_first_look_without_a_break() {
        let (mut quiet, second) = (Quiet::default(), Duration::from_secs);
        assert_eq!(quiet.look(Some(100), second(0), 10), None);
        assert_eq!(quiet.look(Some(109), second(1), 10), Some((9.0, second(1))));
        assert_eq!(quiet.look(Some(110), second(2), 10), Some((1.0, second(2))));
        assert_eq!(
            quiet.look(Some(120), second(3), 10),
            Some((10.0, second(0)))
        );
        assert_eq!(quiet.look(Some(120), second(4), 10), Some((0.0, second(1))));
        // Nobody knows: that is not quiet.
        assert_eq!(quiet.look(None, second(5), 10), None);
        assert_eq!(quiet.look(Some(120), second(6), 10), None);
        assert_eq!(quiet.look(Some(120), second(7), 10), Some((0.0, second(1))));
    }
}
