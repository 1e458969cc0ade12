//! What somebody is told of a run: when, and in which words. Pure, but for the time it is given.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use crate::config::{Notify, NotifyForm, NotifyOf};
use crate::runner::types::{Direction, Event, EventKind, RunState, RunView};

/// Why somebody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Why {
    /// A phase begins.
    Phase,
    /// A phase lasts.
    Update,
    /// The run is over.
    End,
    /// Nobody has acknowledged that the run needs somebody.
    Escalation,
    /// What the watch after it saw.
    Report,
}

impl Why {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Phase => "phase",
            Self::Update => "update",
            Self::End => "end",
            Self::Escalation => "escalation",
            Self::Report => "report",
        }
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Message {
    pub(super) why: Why,
    pub(super) run: String,
    pub(super) database: String,
    pub(super) direction: Direction,
    pub(super) by: String,
    pub(super) state: RunState,
    /// A sentence about the state.
    pub(super) text: String,
    pub(super) at: jiff::Timestamp,
    /// How long the state has lasted, in seconds.
    pub(super) lasts_s: u64,
    pub(super) exit_code: Option<u8>,
}

impl Message {
    /// The whole of it as one line for people.
    pub(super) fn line(&self) -> String {
        let Self {
            run,
            database,
            direction,
            by,
            text,
            ..
        } = self;
        let state = self.state.as_str();
        let lasts = humantime::format_duration(Duration::from_secs(self.lasts_s));
        let what = match self.why {
            Why::Report => text.clone(),
            Why::Phase | Why::End => format!("{state}: {text}"),
            Why::Update => format!("still {state} after {lasts}: {text}"),
            Why::Escalation => format!(
                "NOBODY HAS ACKNOWLEDGED: {state} for {lasts}: {text} \
                 (`pgdrain migrate ack {run}`)"
            ),
        };
        format!("pgdrain: migration {direction} of {database} by {by}: {what} [run {run}]")
    }

    /// What a webhook is sent.
    pub(super) fn body(&self, form: NotifyForm) -> Vec<u8> {
        let value = match form {
            NotifyForm::Json => json!(self),
            // "Formatting text for app surfaces" of Slack's documentation: these three alone.
            NotifyForm::Slack => {
                let text = self.line().replace('&', "&amp;");
                json!({ "text": text.replace('<', "&lt;").replace('>', "&gt;") })
            }
        };
        value.to_string().into_bytes()
    }
}

/// How far one target has been told.
#[derive(Debug)]
pub(super) struct Course<'a> {
    target: &'a Notify,
    by: &'a str,
    /// The last event that was looked at.
    pub(super) seen: u64,
    /// The state of the run, what was said of it last, and since when it lasts.
    state: Option<(RunState, String, Instant)>,
    told: Instant,
    /// Since when the run needs somebody.
    alarm: Option<Instant>,
    escalated: bool,
}

impl<'a> Course<'a> {
    pub(super) fn new(target: &'a Notify, by: &'a str, now: Instant) -> Self {
        Self {
            target,
            by,
            seen: 0,
            state: None,
            told: now,
            alarm: None,
            escalated: false,
        }
    }

    /// What is to be told now. `acked` is when somebody has last acknowledged.
    pub(super) fn next(
        &mut self,
        view: &RunView,
        now: Instant,
        acked: Option<Instant>,
    ) -> Vec<Message> {
        let mut messages = Vec::new();
        for event in &view.events {
            self.seen = event.seq;
            if let Some(why) = self.take(event, now) {
                messages.extend(self.message(view, why, now));
            }
        }
        if self.update_due().is_some_and(|due| due <= now) {
            self.told = now;
            match self.target.escalate_after {
                None => messages.extend(self.message(view, Why::Update, now)),
                // It is only counted from here.
                Some(_) => self.alarm = self.alarm.or(Some(now)),
            }
        }
        if let (Some(alarm), Some(acked)) = (self.alarm, acked)
            && acked >= alarm
        {
            self.alarm = None;
        }
        if self.escalation_due().is_some_and(|due| due <= now) {
            self.escalated = true;
            messages.extend(self.message(view, Why::Escalation, now));
        }
        messages
    }

    /// When something may be due by time alone.
    pub(super) fn due(&self) -> Option<Instant> {
        let both = [self.update_due(), self.escalation_due()];
        both.into_iter().flatten().min()
    }

    /// Whether the run is over, as far as the target has been told.
    pub(super) fn has_ended(&self) -> bool {
        self.state.as_ref().is_some_and(|it| it.0.is_final())
    }

    /// Whether the target will be told nothing more, whatever happens.
    pub(super) fn is_over(&self) -> bool {
        self.has_ended() && self.escalation_due().is_none()
    }

    /// A change of state, and whether the target is to be told of it.
    fn take(&mut self, event: &Event, now: Instant) -> Option<Why> {
        if event.kind != EventKind::State {
            return None;
        }
        let state = event.data.get("state").cloned()?;
        let state: RunState = serde_json::from_value(state).ok()?;
        let before = self.state.take();
        let (changed, since) = match before {
            Some((before, _, since)) if before == state => (false, since),
            _ => (true, now),
        };
        self.state = Some((state, event.text.clone(), since));
        if !changed {
            return None;
        }
        match state {
            RunState::Failed | RunState::Dirty | RunState::Unknown => {
                (self.alarm, self.escalated) = (Some(now), false);
            }
            RunState::Succeeded | RunState::Cancelled => self.alarm = None,
            RunState::Waiting
            | RunState::Preflight
            | RunState::Backup
            | RunState::Holding
            | RunState::Draining
            | RunState::Applying
            | RunState::Rehearsing
            | RunState::Reopening => {}
        }
        if self.target.escalate_after.is_some() {
            // A phase that lasts is counted from its beginning.
            self.told = now;
            return None;
        }
        match (state.is_final(), self.target.of) {
            (true, _) => Some(Why::End),
            (false, NotifyOf::Phases) => Some(Why::Phase),
            (false, NotifyOf::End) => None,
        }
    }

    fn update_due(&self) -> Option<Instant> {
        let (state, _, _) = self.state.as_ref()?;
        let wanted = self.target.of == NotifyOf::Phases && !state.is_final();
        Some(self.told + self.target.every.filter(|_| wanted)?)
    }

    fn escalation_due(&self) -> Option<Instant> {
        let after = self.target.escalate_after?;
        (!self.escalated).then_some(self.alarm? + after)
    }

    fn message(&mut self, view: &RunView, why: Why, now: Instant) -> Option<Message> {
        self.told = now;
        let (state, text, since) = self.state.clone()?;
        Some(Message {
            why,
            run: view.id.clone(),
            database: view.database.clone(),
            direction: view.direction,
            by: self.by.to_owned(),
            state,
            text,
            at: jiff::Timestamp::now(),
            lasts_s: now.saturating_duration_since(since).as_secs(),
            exit_code: view.exit_code,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::config::NotifyTo;

    fn target(escalate_after: Option<u64>) -> Notify {
        Notify {
            name: "team".to_owned(),
            to: NotifyTo::Command("true".to_owned()),
            of: NotifyOf::Phases,
            every: Some(Duration::from_secs(900)),
            escalate_after: escalate_after.map(Duration::from_secs),
        }
    }

    fn view(events: &[(u64, RunState, &str)]) -> RunView {
        let event = |(seq, state, text): &(u64, RunState, &str)| Event {
            seq: *seq,
            at: jiff::Timestamp::UNIX_EPOCH,
            kind: EventKind::State,
            text: (*text).to_owned(),
            data: json!({ "state": state }),
        };
        RunView {
            id: "r".to_owned(),
            database: "shop".to_owned(),
            direction: Direction::Up,
            state: events.last().map_or(RunState::Applying, |it| it.1),
            exit_code: None,
            events: events.iter().map(event).collect(),
            watch: None,
            after: None,
            report: None,
        }
    }

    fn whys(messages: &[Message]) -> Vec<(Why, RunState)> {
        messages.iter().map(|it| (it.why, it.state)).collect()
    }

    #[test]
    fn each_phase_is_told_once_and_one_that_lasts_again_and_again() {
        let (target, start) = (target(None), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut course = Course::new(&target, "ann", start);
        let first = view(&[
            (1, RunState::Draining, "one is in the way"),
            (2, RunState::Draining, "two are"),
            (3, RunState::Applying, "file 1 of 2"),
        ]);
        let told = course.next(&first, at(0), None);
        let expected = [
            (Why::Phase, RunState::Draining),
            (Why::Phase, RunState::Applying),
        ];
        assert_eq!(whys(&told), expected);
        let second = view(&[(4, RunState::Applying, "file 2 of 2")]);
        assert_eq!(course.next(&second, at(600), None), []);
        assert_eq!(course.due(), Some(at(900)));
        let told = course.next(&view(&[]), at(900), None);
        assert_eq!(
            told[0].line(),
            "pgdrain: migration up of shop by ann: still applying after 15m: file 2 of 2 [run r]"
        );
        assert_eq!(course.due(), Some(at(1800)));
        let end = view(&[(5, RunState::Succeeded, "done")]);
        assert_eq!(
            whys(&course.next(&end, at(1000), None)),
            [(Why::End, RunState::Succeeded)]
        );
        assert!(course.is_over() && course.due().is_none());
    }

    #[test]
    fn somebody_else_is_told_when_nobody_acknowledges() {
        let (target, start) = (target(Some(60)), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let failed = view(&[
            (1, RunState::Applying, "file 1 of 1"),
            (2, RunState::Failed, "failed: x"),
        ]);
        let mut course = Course::new(&target, "ann", start);
        assert_eq!(course.next(&failed, at(0), None), []);
        assert!(!course.is_over());
        assert_eq!(course.next(&view(&[]), at(59), None), []);
        let told = course.next(&view(&[]), at(60), None);
        assert_eq!(whys(&told), [(Why::Escalation, RunState::Failed)]);
        assert!(told[0].line().contains("`pgdrain migrate ack r`"));
        assert!(course.is_over());

        let mut course = Course::new(&target, "ann", start);
        course.next(&failed, at(0), None);
        assert_eq!(course.next(&view(&[]), at(60), Some(at(30))), []);
        assert!(course.is_over());

        // A phase that lasts counts from the first update that others got; an acknowledgement holds
        // for what it is about and not for what comes after.
        let mut course = Course::new(&target, "ann", start);
        course.next(&view(&[(1, RunState::Draining, "x")]), at(0), None);
        course.next(&view(&[]), at(900), None);
        assert_eq!(course.next(&view(&[]), at(960), Some(at(930))), []);
        let end = view(&[(2, RunState::Dirty, "dirty: x")]);
        assert_eq!(course.next(&end, at(970), Some(at(930))), []);
        let told = course.next(&view(&[]), at(1030), Some(at(930)));
        assert_eq!(whys(&told), [(Why::Escalation, RunState::Dirty)]);
    }

    #[test]
    fn slack_is_sent_what_it_cannot_take_for_markup() {
        let (target, start) = (target(None), Instant::now());
        let mut course = Course::new(&target, "<!channel>", start);
        let told = course.next(&view(&[(1, RunState::Failed, "a & b")]), start, None);
        let body: Value = serde_json::from_slice(&told[0].body(NotifyForm::Slack)).expect("JSON");
        assert_eq!(
            body["text"],
            "pgdrain: migration up of shop by &lt;!channel&gt;: failed: a &amp; b [run r]"
        );
        let body: Value = serde_json::from_slice(&told[0].body(NotifyForm::Json)).expect("JSON");
        assert_eq!(
            (&body["why"], &body["state"]),
            (&json!("end"), &json!("failed"))
        );
    }
}
