//! Commands about one session, window or migration, and about pgdrain itself: words to orders, and
//! orders to the [`Api`].

use std::time::Duration;

use super::act::{Done, Notice, Who};
use super::command::end;
use super::complaint::Complaint;
use super::desk::Desk;
use super::options;
use super::text::Word;
use crate::admin::api::Api;
use crate::admin::types::{
    Action, ActionRequest, CancelRequest, ConfigReloaded, Effect, MeasureRequest, SessionActed,
    Shutdown, WindowCommand,
};
use crate::config::{HumanDuration, Permission};
use crate::runner::approvals::{ApproveRequest, RevokeRequest};
use crate::window::steps::Command as WindowDo;

/// What is done to one thing, or to pgdrain itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Order {
    /// The configuration is read again.
    Reload,
    /// pgdrain stops.
    Shutdown(Shutdown),
    /// Something is done to one session; `word` is how it was asked for.
    Session {
        word: &'static str,
        action: Action,
        id: u64,
        request: ActionRequest,
    },
    /// A window is renewed, finished or given up.
    Window { id: String, command: WindowDo },
    /// A migration stops.
    CancelMigration { id: String },
    /// Somebody looks after a migration.
    Acknowledge { id: String },
    /// A plan is approved.
    Approve {
        database: String,
        request: ApproveRequest,
    },
    /// An approval is taken back.
    Revoke {
        database: String,
        request: RevokeRequest,
    },
    /// Statements are measured for a time, or no more.
    Measure {
        database: String,
        request: MeasureRequest,
    },
}

/// The order that these words are; `None` where the verb begins no order.
pub(super) fn read(verb: &str, rest: &[Word]) -> Option<Result<Order, Complaint>> {
    let verb = verb.to_ascii_uppercase();
    let about = |noun: &str| rest.first().is_some_and(|word| word.is(noun));
    Some(match verb.as_str() {
        "RELOAD" => end(rest).map(|()| Order::Reload),
        "SHUTDOWN" => shutdown(rest),
        "KILL_CLIENT" => session("KILL_CLIENT", Action::Terminate, rest),
        "CANCEL" if about("MIGRATION") => one("CANCEL MIGRATION", &rest[1..])
            .and_then(|(id, rest)| end(rest).map(|()| Order::CancelMigration { id })),
        "CANCEL" if about("SESSION") => session("CANCEL SESSION", Action::Cancel, &rest[1..]),
        "CANCEL" => Err(no_noun("CANCEL", "SESSION id or MIGRATION id")),
        "TERMINATE" if about("SESSION") => {
            session("TERMINATE SESSION", Action::Terminate, &rest[1..])
        }
        "TERMINATE" => Err(no_noun("TERMINATE", "SESSION id")),
        "ABORT" if about("SESSION") => session("ABORT SESSION", Action::Abort, &rest[1..]),
        "ABORT" if about("WINDOW") => abort_window(&rest[1..]),
        "RENEW" | "FINISH" => window(&verb, rest),
        "ACKNOWLEDGE" if about("MIGRATION") => one("ACKNOWLEDGE MIGRATION", &rest[1..])
            .and_then(|(id, rest)| end(rest).map(|()| Order::Acknowledge { id })),
        "ACKNOWLEDGE" => Err(no_noun("ACKNOWLEDGE", "MIGRATION id")),
        "APPROVE" => approve(rest),
        "REVOKE" => revoke(rest),
        "MEASURE" => measure(rest),
        _ => return None,
    })
}

fn no_noun(verb: &str, what: &str) -> Complaint {
    let complaint = Complaint::syntax(format!("{verb} has to be followed by {what}"));
    complaint.hint("SHOW SESSIONS, SHOW WINDOWS and SHOW MIGRATIONS have the ids.")
}

/// `ABORT` of something that cannot be, where SQL's would roll back.
pub(super) fn what_is_aborted() -> Complaint {
    no_noun("ABORT", "SESSION id or WINDOW id")
}

/// The id behind a command's words, and what is left.
fn one<'a>(command: &str, words: &'a [Word]) -> Result<(String, &'a [Word]), Complaint> {
    match words {
        [id, rest @ ..] if id.value().is_some() => Ok((id.shown(), rest)),
        _ => Err(Complaint::syntax(format!("{command} needs an id"))),
    }
}

fn shutdown(words: &[Word]) -> Result<Order, Complaint> {
    let (how, rest) = match words {
        [] => (Shutdown::Now, words),
        [word, rest @ ..] if word.is("WAIT_FOR_SERVERS") => (Shutdown::AfterTransactions, rest),
        [word, rest @ ..] if word.is("WAIT_FOR_CLIENTS") => (Shutdown::AfterClients, rest),
        [word, ..] => {
            let text = format!("\"{}\" is no way to shut down", word.shown());
            return Err(Complaint::syntax(text).hint(
                "There are SHUTDOWN, SHUTDOWN WAIT_FOR_SERVERS and SHUTDOWN WAIT_FOR_CLIENTS.",
            ));
        }
    };
    end(rest).map(|()| Order::Shutdown(how))
}

fn session(word: &'static str, action: Action, words: &[Word]) -> Result<Order, Complaint> {
    let (id, rest) = one(word, words)?;
    let Ok(id) = id.parse() else {
        let complaint = Complaint::value(format!("{word}: \"{id}\" is no number of a session"));
        return Err(complaint.hint("SHOW SESSIONS and SHOW CLIENTS have it in the column id."));
    };
    Ok(Order::Session {
        word,
        action,
        id,
        request: options::read(word, &options::REASON, rest)?.build()?,
    })
}

fn window(verb: &str, words: &[Word]) -> Result<Order, Complaint> {
    let [noun, rest @ ..] = words else {
        return Err(no_noun(verb, "WINDOW id"));
    };
    if !noun.is("WINDOW") {
        return Err(no_noun(verb, "WINDOW id"));
    }
    let (id, rest) = one(&format!("{verb} WINDOW"), rest)?;
    end(rest)?;
    let command = match verb {
        "RENEW" => WindowDo::Renew,
        _ => WindowDo::Finish,
    };
    Ok(Order::Window { id, command })
}

fn abort_window(words: &[Word]) -> Result<Order, Complaint> {
    /// What the options say.
    #[derive(serde::Deserialize)]
    struct Aborted {
        then: Option<crate::admin::types::After>,
    }
    let (id, rest) = one("ABORT WINDOW", words)?;
    let given = options::read("ABORT WINDOW", &options::ABORT_WINDOW, rest)?;
    let Aborted { then } = given.build()?;
    let command = WindowDo::Abort(then);
    Ok(Order::Window { id, command })
}

fn approve(words: &[Word]) -> Result<Order, Complaint> {
    let (database, given) = of_a_plan("APPROVE", &options::APPROVE, words)?;
    let request = given.build()?;
    Ok(Order::Approve { database, request })
}

fn revoke(words: &[Word]) -> Result<Order, Complaint> {
    let (database, given) = of_a_plan("REVOKE", &options::REVOKE, words)?;
    let request = given.build()?;
    Ok(Order::Revoke { database, request })
}

/// The database, and what is said about a plan of it.
fn of_a_plan(
    verb: &str,
    known: &[options::Known],
    words: &[Word],
) -> Result<(String, options::Given), Complaint> {
    let usage = || {
        let complaint = Complaint::syntax(format!("{verb} needs a database, a plan and a role"));
        complaint.hint(format!("For example: {verb} shop PLAN 1f6d… AS dba"))
    };
    let [database, rest @ ..] = words else {
        return Err(usage());
    };
    let database = database.value().ok_or_else(usage)?;
    let given = options::read(verb, known, rest)?;
    match given.has("plan") && given.has("role") {
        true => Ok((database.to_owned(), given)),
        false => Err(usage()),
    }
}

fn measure(words: &[Word]) -> Result<Order, Complaint> {
    let usage = || {
        let complaint = Complaint::syntax("MEASURE needs a database and a time, or OFF");
        complaint.hint("For example: MEASURE shop FOR 10m, and then SHOW STATEMENTS shop")
    };
    let [database, rest @ ..] = words else {
        return Err(usage());
    };
    let database = database.value().ok_or_else(usage)?.to_owned();
    let request = match rest {
        [] => return Err(usage()),
        [off] if off.is("OFF") => MeasureRequest {
            lasting: HumanDuration(Duration::ZERO),
            one_in: None,
        },
        rest => options::read("MEASURE", &options::MEASURE, rest)?.build()?,
    };
    Ok(Order::Measure { database, request })
}

impl Order {
    /// The database that it is about, if it says one.
    pub(super) fn database(&self) -> Option<&str> {
        match self {
            Self::Approve { database, .. }
            | Self::Revoke { database, .. }
            | Self::Measure { database, .. } => Some(database),
            Self::Reload
            | Self::Shutdown(_)
            | Self::Session { .. }
            | Self::Window { .. }
            | Self::CancelMigration { .. }
            | Self::Acknowledge { .. } => None,
        }
    }

    /// Who may do it: as over the admin HTTP.
    pub(super) fn needs(&self) -> &'static [Permission] {
        match self {
            Self::Reload | Self::Shutdown(_) => &[Permission::Administer],
            Self::Session { .. }
            | Self::Window { .. }
            | Self::CancelMigration { .. }
            | Self::Acknowledge { .. }
            | Self::Measure { .. } => &[Permission::Hold],
            Self::Approve { .. } | Self::Revoke { .. } => &[Permission::Approve],
        }
    }

    /// Its command tag.
    pub(super) fn tag(&self) -> &'static str {
        match self {
            Self::Reload => "RELOAD",
            Self::Shutdown(_) => "SHUTDOWN",
            Self::Session { word, .. } => word,
            Self::Window { command, .. } => match command {
                WindowDo::Renew => "RENEW WINDOW",
                WindowDo::Finish => "FINISH WINDOW",
                WindowDo::Abort(_) => "ABORT WINDOW",
            },
            Self::CancelMigration { .. } => "CANCEL MIGRATION",
            Self::Acknowledge { .. } => "ACKNOWLEDGE MIGRATION",
            Self::Approve { .. } => "APPROVE",
            Self::Revoke { .. } => "REVOKE",
            Self::Measure { .. } => "MEASURE",
        }
    }

    /// Carries it out. What was begun goes on when nobody waits for it any more.
    pub(super) async fn carry_out<A: Api>(
        self,
        desk: &Desk<A>,
        who: &Who,
    ) -> Result<Done, Complaint> {
        let (by, caller) = (Some(who.user.clone()), who.caller.clone());
        let asked = ActionRequest {
            reason: None,
            by: by.clone(),
        };
        let notices = match self {
            Self::Reload => reloaded(&desk.api.reload_config(asked, caller).await?),
            Self::Shutdown(how) => {
                desk.api.shut_down(how, asked, caller).await?;
                vec![Notice::new(format!("pgdrain stops: {}", how.what()))]
            }
            Self::Session {
                action,
                id,
                request,
                ..
            } => {
                let request = ActionRequest { by, ..request };
                let acted = desk.api.act_on_session(id, action, request, caller);
                vec![done(&acted.await?)]
            }
            Self::Window { id, command } => {
                let then = match command {
                    WindowDo::Abort(then) => then,
                    WindowDo::Renew | WindowDo::Finish => None,
                };
                // Of a window the id names one alone; the term is for holders that were replaced.
                let term = desk.api.window(id.clone(), 0, Duration::ZERO).await?.term;
                let body = WindowCommand { term, then, by };
                let window = desk.api.command_window(id, command, body, caller).await?;
                let after = window
                    .after
                    .map(|after| format!(", then traffic is {after}"));
                let after = after.unwrap_or_default();
                let (id, state) = (&window.id, window.state);
                vec![Notice::new(format!("window {id}: {state}{after}"))]
            }
            Self::CancelMigration { id } => {
                let request = CancelRequest { by };
                let cancelling = desk.api.cancel_migration(id, request).await?;
                let id = cancelling.id;
                vec![Notice::new(format!(
                    "migration {id} was asked to stop; SHOW MIGRATION {id} says how it ends"
                ))]
            }
            Self::Acknowledge { id } => {
                let request = CancelRequest { by };
                let taken = desk.api.acknowledge(id, request).await?;
                vec![Notice::new(format!(
                    "migration {}: {} looks after it",
                    taken.id, taken.by
                ))]
            }
            Self::Approve { database, request } => {
                caller.may_speak_for(&request.role)?;
                let by = caller.signs(by);
                let request = ApproveRequest { by, ..request };
                let approval = desk.api.approve(database, request).await?;
                let until = approval.expires_at.unwrap_or_default();
                vec![Notice::new(format!(
                    "plan {} is approved as {} by {} until {until}",
                    approval.plan, approval.role, approval.by
                ))]
            }
            Self::Revoke { database, request } => {
                caller.may_speak_for(&request.role)?;
                let by = caller.signs(by);
                let request = RevokeRequest { by, ..request };
                let taken = desk.api.revoke(database, request).await?;
                vec![Notice::new(format!(
                    "the approval of plan {} as {} is taken back",
                    taken.plan, taken.role
                ))]
            }
            Self::Measure { database, request } => {
                let view = desk.api.measure_statements(database, request, caller);
                let view = view.await?;
                vec![Notice::new(match view.until {
                    Some(until) => format!(
                        "statements of {} are measured until {}; SHOW STATEMENTS shows them",
                        view.database,
                        until.strftime("%H:%M:%S UTC")
                    ),
                    None => format!("statements of {} are not measured", view.database),
                })]
            }
        };
        Ok(Done::told(notices))
    }
}

/// What applies now, what at a restart, and what is worth knowing besides.
fn reloaded(reloaded: &ConfigReloaded) -> Vec<Notice> {
    let warnings = reloaded.warnings.iter().cloned().map(Notice::warning);
    let mut notices: Vec<Notice> = warnings.collect();
    let (now, restart) = (&reloaded.now, &reloaded.restart);
    if now.is_empty() && restart.is_empty() {
        notices.push(Notice::new("nothing has changed".to_owned()));
    }
    if !now.is_empty() {
        let text = format!("changed now: {}", now.join(", "));
        notices.push(Notice::new(text));
    }
    if !restart.is_empty() {
        let text = format!(
            "different in the file, and as before until a restart: {}",
            restart.join(", ")
        );
        notices.push(Notice::warning(text));
    }
    notices
}

/// What was done to a session, and what its client gets.
fn done(acted: &SessionActed) -> Notice {
    let SessionActed {
        id,
        user,
        application_name: application,
        client,
        client_sees,
        ..
    } = acted;
    let who = format!("session {id} ({user} {application}, {client})");
    match acted.effect {
        Effect::Asked => Notice::warning(format!(
            "{who}: {} was asked for and goes on; SHOW SESSIONS shows what it does",
            acted.action
        )),
        Effect::Cancelled | Effect::Terminated | Effect::Aborted => Notice::new(format!(
            "{who}: {}; the client gets {client_sees}",
            acted.effect
        )),
    }
}

#[cfg(test)]
#[path = "orders_tests.rs"]
mod tests;
