//! `pgdrain migrate approve`, `approvals`, `revoke`, `gonogo`, `decide` and `ack`: what people have to say
//! about a migration.

use clap::{Args, ValueEnum};
use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::arguments::{Asking, operator};
use super::client::{ClientError, Patience, path};
use super::exit::Exit;
use super::migrate::{Files, read_files};
use super::output::{plain, table};
use super::planning::Wish;
use super::timing::TimingArguments;
use crate::admin::types::{Acknowledged, CancelRequest};
use crate::config::HumanDuration;
use crate::runner::approvals::{
    Approval, Approvals, ApproveRequest, Choice, DecideRequest, Decision, RevokeRequest,
};
use crate::runner::gonogo::{GoNoGo, GoNoGoRequest};

#[derive(Args, Debug)]
pub(super) struct Acknowledging {
    /// The migration's run, as its messages name it.
    #[arg(value_name = "RUN")]
    run: String,
    #[command(flatten)]
    asking: Asking,
}

impl Acknowledging {
    pub(super) async fn ask(self) -> anyhow::Result<Exit> {
        let path = path(&["v1", "migrations", &self.run, "ack"]);
        let request = CancelRequest {
            by: Some(operator()),
        };
        let done: Acknowledged = self
            .asking
            .client()?
            .send(Method::POST, &path, &request, Patience::Short)
            .await?;
        self.asking.format().print(&done, |done| {
            format!("{} looks after run {}", plain(&done.by), plain(&done.id))
        })?;
        Ok(Exit::SUCCESS)
    }
}

/// Who speaks, and why.
#[derive(Args, Debug)]
struct Speaking {
    /// Who; the user of this shell if it is not said. The name of a token that is shown counts instead.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// What there is to say about it.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

impl Speaking {
    fn by(&self) -> Option<String> {
        Some(self.by.clone().unwrap_or_else(operator))
    }

    async fn post<T: DeserializeOwned>(
        &self,
        database: &str,
        what: &[&str],
        request: &impl Serialize,
    ) -> anyhow::Result<T> {
        let segments = [&["v1", "databases", database, "migrations"], what].concat();
        let (client, path) = (self.asking.client()?, path(&segments));
        let sent = client.send(Method::POST, &path, request, Patience::Short);
        Ok(sent.await?)
    }
}

#[derive(Args, Debug)]
pub(super) struct Approving {
    /// The database.
    #[arg(value_name = "DB")]
    database: String,
    /// The hash of the plan, as `pgdrain migrate plan` shows it.
    #[arg(long, value_name = "HASH")]
    plan: String,
    /// The role that approves, one of migrate.approvals.roles.
    #[arg(long = "as", value_name = "ROLE")]
    role: String,
    /// For how long, such as 24h; as configured if it is not said.
    #[arg(long, value_name = "TIME")]
    expires: Option<HumanDuration>,
    #[command(flatten)]
    speaking: Speaking,
}

impl Approving {
    pub(super) async fn ask(self) -> anyhow::Result<Exit> {
        let request = ApproveRequest {
            plan: self.plan,
            role: self.role,
            by: self.speaking.by(),
            expires: self.expires,
            reason: self.speaking.reason.clone(),
        };
        let speaking = &self.speaking;
        let done: Approval = speaking
            .post(&self.database, &["approvals"], &request)
            .await?;
        speaking.asking.format().print(&done, |it| {
            let until = it.expires_at.as_deref().unwrap_or_default();
            let (role, by) = (plain(&it.role), plain(&it.by));
            format!(
                "approved as {role} by {by}, until {until}: plan {}",
                it.plan
            )
        })?;
        Ok(Exit::SUCCESS)
    }
}

#[derive(Args, Debug)]
pub(super) struct Revoking {
    /// The database.
    #[arg(value_name = "DB")]
    database: String,
    /// The hash of the plan.
    #[arg(long, value_name = "HASH")]
    plan: String,
    /// The role whose approval is taken back.
    #[arg(long = "as", value_name = "ROLE")]
    role: String,
    #[command(flatten)]
    speaking: Speaking,
}

impl Revoking {
    pub(super) async fn ask(self) -> anyhow::Result<Exit> {
        let request = RevokeRequest {
            plan: self.plan,
            role: self.role,
            by: self.speaking.by(),
            reason: self.speaking.reason.clone(),
        };
        let speaking = &self.speaking;
        let what = ["approvals", "revoke"];
        let done: Approval = speaking.post(&self.database, &what, &request).await?;
        speaking.asking.format().print(&done, |it| {
            let (role, by) = (plain(&it.role), plain(&it.by));
            format!(
                "the approval as {role} was taken back by {by}: plan {}",
                it.plan
            )
        })?;
        Ok(Exit::SUCCESS)
    }
}

#[derive(Args, Debug)]
pub(super) struct Approved {
    /// The database.
    #[arg(value_name = "DB")]
    database: String,
    /// Only of this plan.
    #[arg(long, value_name = "HASH")]
    plan: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

impl Approved {
    pub(super) async fn show(self) -> anyhow::Result<Exit> {
        let mut path = path(&["v1", "databases", &self.database, "migrations", "approvals"]);
        if let Some(plan) = &self.plan {
            let query: String = url::form_urlencoded::byte_serialize(plan.as_bytes()).collect();
            path += &format!("?plan={query}");
        }
        let approvals: Approvals = self.asking.client()?.get(&path).await?;
        self.asking.format().print(&approvals, text)?;
        Ok(Exit::SUCCESS)
    }
}

fn text(approvals: &Approvals) -> String {
    let who = match (approvals.roles.is_empty(), approvals.required) {
        (true, _) => "nobody has to approve (migrate.approvals.roles)".to_owned(),
        (false, true) => format!("have to approve: {}", approvals.roles.join(", ")),
        (false, false) => format!("approve: {} (not required)", approvals.roles.join(", ")),
    };
    let rows = approvals.approvals.iter().map(|it| {
        [
            it.standing.as_str().to_owned(),
            it.role.clone(),
            it.by.clone(),
            it.at.clone(),
            it.expires_at.clone().unwrap_or_default(),
            it.plan.chars().take(12).collect(),
            it.reason.clone().unwrap_or_default(),
        ]
    });
    let header = ["STANDING", "ROLE", "BY", "AT", "UNTIL", "PLAN", "REASON"];
    match approvals.approvals.is_empty() {
        true => plain(&who),
        false => format!("{}\n{}", plain(&who), table(header, rows)),
    }
}

#[derive(Args, Debug)]
pub(super) struct Going {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    wish: Wish,
    #[command(flatten)]
    timing: TimingArguments,
    /// Who would lead the database back.
    #[arg(long, value_name = "NAME")]
    rollback_by: Option<String>,
    /// The run backs the database up first.
    #[arg(long, conflicts_with = "no_backup")]
    backup: bool,
    /// The run does not back the database up first.
    #[arg(long)]
    no_backup: bool,
    #[command(flatten)]
    asking: Asking,
}

impl Going {
    pub(super) async fn show(self) -> anyhow::Result<Exit> {
        let request = GoNoGoRequest {
            files: read_files(&self.files.dir, self.files.format)?,
            steps: self.wish.steps,
            format: self.files.format,
            history: self.files.history.clone(),
            traffic: self.wish.traffic,
            when: self.timing.when(),
            rollback_by: self.rollback_by,
            backup: match (self.backup, self.no_backup) {
                (true, _) => Some(true),
                (_, true) => Some(false),
                (false, false) => None,
            },
        };
        let database = &self.files.database;
        let path = path(&["v1", "databases", database, "migrations", "gonogo"]);
        let client = self.asking.client()?;
        let sent = client.send(Method::POST, &path, &request, Patience::Endless);
        let gate: Result<GoNoGo, ClientError> = sent.await;
        let gate = gate?;
        self.asking.format().print(&gate, gate_text)?;
        Ok(Exit(gate.exit_code))
    }
}

fn gate_text(gate: &GoNoGo) -> String {
    let mut text = String::new();
    for line in &gate.lines {
        let (verdict, name) = (line.verdict.as_str(), plain(&line.name));
        text += &format!("{verdict:<8} {name}: {}\n", plain(&line.text));
        if let Some(hint) = &line.hint {
            text += &format!("         what to do: {}\n", plain(hint));
        }
    }
    let plan = gate.plan.as_deref().unwrap_or("none");
    let verdict = match gate.go {
        true => "GO",
        false => "NO-GO",
    };
    text + &format!("{verdict} for {} (plan {plan})", plain(&gate.database))
}

/// What is to be done about a run that failed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ChoiceArgument {
    /// Another migration puts it right.
    FixForward,
    /// It is taken back.
    Rollback,
}

#[derive(Args, Debug)]
pub(super) struct Deciding {
    /// The database.
    #[arg(value_name = "DB")]
    database: String,
    /// The run that failed.
    #[arg(value_name = "RUN")]
    run: String,
    /// What is to be done.
    #[arg(value_name = "DECISION")]
    decision: ChoiceArgument,
    #[command(flatten)]
    speaking: Speaking,
}

impl Deciding {
    pub(super) async fn ask(self) -> anyhow::Result<Exit> {
        let request = DecideRequest {
            run: self.run,
            decision: match self.decision {
                ChoiceArgument::FixForward => Choice::FixForward,
                ChoiceArgument::Rollback => Choice::Rollback,
            },
            by: self.speaking.by(),
            reason: self.speaking.reason.clone(),
        };
        let speaking = &self.speaking;
        let done: Decision = speaking.post(&self.database, &["decide"], &request).await?;
        speaking.asking.format().print(&done, |it| {
            format!(
                "{} was decided by {} at {}",
                it.decision.as_str(),
                plain(&it.by),
                it.at
            )
        })?;
        Ok(Exit::SUCCESS)
    }
}
