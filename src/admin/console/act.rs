//! Carries commands out through the [`Api`], and says what came of them.

use std::fmt;
use std::sync::Arc;

use bytes::BytesMut;
use jiff::{SignedDuration, Timestamp};

use super::command::Command;
use super::complaint::Complaint;
use super::desk::Desk;
use super::show;
use super::value::{Row, Value};
use crate::admin::api::{Answer, Api, ApiError, Databases};
use crate::admin::caller::Caller;
use crate::admin::types::{
    DrainOutcome, HoldStatus, Holder, ModeName, ModeRequest, ModeResult, OpenRequest, Status,
};
use crate::config::{Admin, Scope};
use crate::session::console::{Standing, Visitor};
use crate::wire::refusal::Said;

/// Who gives commands.
#[derive(Debug)]
pub(super) struct Who {
    /// As the admin HTTP knows callers.
    pub(super) caller: Caller,
    /// The user whom it names.
    pub(super) user: String,
}

/// What came of a command.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) rows: Vec<Row>,
    pub(super) notices: Vec<Notice>,
}

/// A sentence about what was done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Notice {
    severity: &'static str,
    message: String,
}

impl Notice {
    pub(super) fn new(message: String) -> Notice {
        let severity = "NOTICE";
        Notice { severity, message }
    }

    pub(super) fn warning(message: String) -> Notice {
        let severity = "WARNING";
        Notice { severity, message }
    }

    pub(super) fn encode(&self) -> BytesMut {
        let sqlstate = match self.severity {
            "WARNING" => "01000",
            _ => "00000",
        };
        let said = Said {
            severity: self.severity,
            sqlstate,
            message: &self.message,
            detail: None,
            hint: None,
        };
        said.encode()
    }
}

impl Done {
    pub(super) fn row(row: Vec<Value>) -> Done {
        Done {
            rows: vec![row],
            notices: Vec::new(),
        }
    }

    pub(super) fn told(notices: Vec<Notice>) -> Done {
        let rows = Vec::new();
        Done { rows, notices }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.user, self.caller.from)
    }
}

impl Who {
    /// `admin` says what may be done on this machine by whoever shows nothing, and what is seen by whoever
    /// may only look, as over the admin HTTP.
    pub(super) fn of(visitor: &Visitor, admin: &Admin) -> Who {
        let user = visitor.startup.user().to_owned();
        let from = format!("console {}", visitor.peer);
        let caller = match visitor.standing {
            Standing::Local => Caller::unnamed(from, &admin.local),
            Standing::Proved(role) => Caller::known(from, user.clone(), role),
        };
        let caller = caller.shown_constants(admin.show_constants);
        Who { caller, user }
    }

    /// Whether it may do this.
    pub(super) fn may(&self, command: &Command) -> Result<(), Complaint> {
        let needs = command.needs();
        if self.caller.may(needs).is_ok() {
            return Ok(());
        }
        let needs: Vec<&str> = needs.iter().map(|it| it.as_str()).collect();
        let roles = command.needs().iter().flat_map(|it| it.roles());
        let mut roles: Vec<&str> = roles.map(|role| role.as_str()).collect();
        roles.dedup();
        let tag = command.tag();
        let text = format!("{tag} needs the permission {}", needs.join(" or "));
        let complaint = Complaint::new("42501", text);
        let machine = match self.caller.role {
            Some(_) => "",
            None => ", or let all of this machine by admin.local",
        };
        Err(complaint.hint(format!(
            "Log in as a user that [console.users] gives one of the roles {}{machine}.",
            roles.join(", ")
        )))
    }
}

/// Carries out what needs more than the connection itself.
///
/// Cancel safe as the calls of [`Api`] are: what has begun goes on.
pub(super) async fn carry_out<A: Api>(
    desk: Arc<Desk<A>>,
    who: Arc<Who>,
    command: Command,
) -> Result<Done, Complaint> {
    if command.acts() {
        tracing::info!(%who, command = command.tag(), "console command");
    }
    let tag = command.tag();
    if let Some(database) = command.database()
        && desk.api.lacks(database, false).await
    {
        let complaint = Complaint::from(ApiError::no_database(database));
        return Err(complaint.hint("SHOW DATABASES lists those that clients have come to."));
    }
    match command {
        Command::Show { what, argument } => {
            let rows = show::rows(&desk, &who.caller, what, argument.as_deref()).await?;
            Ok(Done {
                rows,
                notices: Vec::new(),
            })
        }
        Command::Mode {
            databases,
            request,
            answer,
            ..
        } => mode(&desk, &who, (databases, *request), answer).await,
        Command::Drain {
            databases,
            mut request,
        } => {
            request.by = Some(who.user.clone());
            let caller = who.caller.clone();
            let changed = desk.api.change_drain(databases, request, caller).await?;
            Ok(Done::told(changed.results.iter().map(reached).collect()))
        }
        Command::Cap {
            database,
            mut request,
        } => {
            request.by = Some(who.user.clone());
            let capped = desk.api.cap(database, request, who.caller.clone()).await?;
            let what = match capped.cap {
                Some(cap) => format!("at most {} transactions at once", cap.transactions),
                None => "no cap".to_owned(),
            };
            Ok(Done::told(vec![Notice::new(format!(
                "{}: {what}",
                capped.database
            ))]))
        }
        Command::Order(order) => order.carry_out(&desk, &who).await,
        Command::Parameter(_)
        | Command::Set { .. }
        | Command::Nothing(_)
        | Command::Begin
        | Command::Commit
        | Command::Rollback
        | Command::Number(_) => Err(Complaint::new(
            "XX000",
            format!("{tag} is no command to wait for"),
        )),
    }
}

async fn mode<A: Api>(
    desk: &Desk<A>,
    who: &Who,
    (databases, mut request): (Databases, ModeRequest),
    answer: Answer,
) -> Result<Done, Complaint> {
    let by = Some(who.user.clone());
    match &mut request {
        ModeRequest::Hold(body) => body.by = by,
        ModeRequest::ReadOnly(body) => body.by = by,
        ModeRequest::Open(body) => body.by = by,
    }
    let opens = matches!(request, ModeRequest::Open(_));
    let caller = who.caller.clone();
    let set = desk
        .api
        .set_mode(databases.clone(), request, answer, caller);
    let results = set.await.map_err(not_reached)?.results;
    let mut notices: Vec<Notice> = match opens {
        false => {
            let status = desk.api.status().await;
            let notice = |result| held(result, &status);
            results.iter().map(notice).collect()
        }
        true => {
            let held = results.iter().filter(|it| it.mode != ModeName::Open);
            let notice = |result: &ModeResult| {
                Notice::warning(format!(
                    "{}: still {}, by somebody else; SHOW HOLDS says by whom",
                    result.database,
                    in_words(result.mode)
                ))
            };
            held.map(notice).collect()
        }
    };
    if results.is_empty() {
        notices.push(Notice::warning(match (&databases, opens) {
            (Databases::All, false) => "no client has come yet; whoever comes waits".to_owned(),
            (Databases::One(name), false) => {
                format!("nobody has connected to {name:?} yet; whoever does waits")
            }
            (Databases::All, true) => "nothing was held".to_owned(),
            (Databases::One(name), true) => format!("nobody has connected to {name:?} yet"),
        }));
    }
    Ok(Done::told(notices))
}

fn in_words(mode: ModeName) -> &'static str {
    match mode {
        ModeName::Open => "open",
        ModeName::ReadOnly => "read-only",
        ModeName::Hold => "held",
    }
}

/// What was reached in a database, and how long it lasts.
fn held(result: &ModeResult, status: &Status) -> Notice {
    let Notice {
        severity,
        mut message,
    } = reached(result);
    let database = status
        .databases
        .iter()
        .find(|it| it.database == result.database);
    let scopes = database.iter().flat_map(|it| &it.scopes);
    let narrow = scopes.flat_map(|scope| &scope.holds);
    let all = database.iter().flat_map(|it| &it.holds).chain(narrow);
    let mut ours = all.filter(|hold| hold.generation == result.generation);
    if let Some(hold) = ours.find(|hold| hold.until.is_some()) {
        message += "; ";
        message += &lasts(hold);
    }
    Notice { severity, message }
}

/// How long a hold lasts, and what comes then.
fn lasts(hold: &HoldStatus) -> String {
    match hold.until {
        Some(until) => format!(
            "it ends at {}, then {}",
            until.strftime("%H:%M:%S UTC"),
            hold.then
        ),
        None => "it stays until OPEN".to_owned(),
    }
}

fn reached(result: &ModeResult) -> Notice {
    let mut message = format!("{}: {}", result.database, in_words(result.mode));
    if let Some(scope) = &result.scope {
        message += &format!(" for {scope}");
    }
    if let Some(drain) = &result.drain {
        message += &format!(", {}", drain.detail);
    }
    Notice::new(message)
}

/// Why a mode was not reached: with everybody who is in the way.
fn not_reached(error: ApiError) -> Complaint {
    let in_the_way = error.results.iter().flat_map(|result| {
        let drain = result.drain.iter();
        let all = drain.flat_map(|drain| drain.in_the_way.iter().chain(&drain.bypass));
        all.map(|who| format!("{}: {}", result.database, who.name()))
    });
    let in_the_way: Vec<String> = in_the_way.collect();
    let is_open = |result: &ModeResult| {
        let drain = result.drain.as_ref();
        drain.is_some_and(|drain| matches!(drain.outcome, DrainOutcome::Exhausted))
    };
    let reopened = error.results.iter().any(is_open);
    let no_results = error.results.is_empty();
    let complaint = Complaint::from(error);
    if no_results {
        return complaint;
    }
    let complaint = match in_the_way.is_empty() {
        true => complaint,
        false => complaint.detail(in_the_way.join("\n")),
    };
    complaint.hint(match reopened {
        true => {
            "Traffic flows again. With LADDER firm what stands in the way is cancelled or aborted, with \
             LADDER force terminated."
        }
        false => "SHOW HOLDS says what is held now.",
    })
}

/// What became of a command whose client does not want to wait for it any more. A hold goes on, as it
/// does when the command line is interrupted; but `PAUSE` is taken back, as PgBouncer does.
pub(super) async fn given_up<A: Api>(
    desk: &Desk<A>,
    who: &Who,
    command: &Command,
    began: Timestamp,
) -> Complaint {
    let cancelled = |text: &str| Complaint::new("57014", text);
    let Command::Mode {
        word,
        databases,
        request,
        ..
    } = command
    else {
        return cancelled("canceling statement due to user request");
    };
    let scope = match &**request {
        ModeRequest::Hold(body) => body.scope(),
        ModeRequest::ReadOnly(body) => body.scope(),
        ModeRequest::Open(_) => {
            return cancelled("canceling statement due to user request")
                .hint("SHOW HOLDS says what is held.");
        }
    };
    let status = desk.api.status().await;
    let ours = Ours {
        databases,
        scope: &scope,
        by: &who.user,
        began,
    };
    let Some(hold) = ours.find(&status) else {
        let text = format!("{word} was cancelled: nothing is held by it");
        return cancelled(&text).hint("SHOW HOLDS says what is held.");
    };
    let named = match databases {
        Databases::All => "*".to_owned(),
        Databases::One(name) => format!("\"{name}\""),
    };
    if *word != "PAUSE" {
        let text = format!(
            "waiting was cancelled, and {word} {named} goes on: {}",
            lasts(hold)
        );
        let hint = format!("OPEN {named} ends it; SHOW BLOCKERS says who is in the way.");
        return cancelled(&text).hint(hint);
    }
    let open = ModeRequest::Open(OpenRequest {
        user: scope.user.clone(),
        application_name: scope.application_name.clone(),
        client: scope.client,
        reason: Some("PAUSE was cancelled".to_owned()),
        by: Some(who.user.clone()),
        ..OpenRequest::default()
    });
    let caller = who.caller.clone();
    let opened = desk
        .api
        .set_mode(databases.clone(), open, Answer::AtOnce, caller);
    match opened.await {
        Ok(_) => cancelled(&format!("PAUSE was cancelled: {named} is open again")),
        Err(error) => {
            let text = format!(
                "waiting was cancelled, and {named} stays held: {}",
                error.message
            );
            cancelled(&text).hint("SHOW HOLDS says by whom and why.")
        }
    }
}

/// Which hold a command has placed: nobody else's is opened.
struct Ours<'a> {
    databases: &'a Databases,
    scope: &'a Scope,
    by: &'a str,
    began: Timestamp,
}

impl Ours<'_> {
    fn find<'s>(&self, status: &'s Status) -> Option<&'s HoldStatus> {
        let databases = status.databases.iter().filter(|it| match self.databases {
            Databases::All => true,
            Databases::One(name) => it.database == *name,
        });
        let holds = databases.flat_map(|database| {
            let narrow = database.scopes.iter();
            let narrow = narrow.filter(|narrow| narrow.scope == *self.scope);
            let narrow = narrow.flat_map(|narrow| &narrow.holds);
            let whole = database.holds.iter().filter(|_| self.scope.is_whole());
            whole.chain(narrow)
        });
        // The clock that a hold counts by and the wall's agree to much less than this.
        let earliest = self.began.saturating_sub(SignedDuration::from_millis(100));
        let earliest = earliest.unwrap_or(self.began);
        let mut holds = holds;
        holds.find(|hold| {
            let by_command = match hold.holder {
                Holder::Everywhere | Holder::Operator => true,
                Holder::Window => false,
            };
            by_command && hold.by == self.by && hold.since >= earliest
        })
    }
}
