//! The runner's settings: what a request may leave out, and how long the runner waits for things.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::{
    Approvals, Backup, BatchLimits, Canary, Compare, Copies, Hook, Measures, Notify, Postflight,
    Preflight, Reports, Retry, RunLog, SaveObjects, Thresholds, Trigger, Validate,
};

/// Settings of a runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The role that files run as (`SET ROLE`), if not the one that connects.
    pub owner: Option<String>,
    /// How long a window may last, if the request does not say.
    pub window: Duration,
    /// How long a statement waits for each lock, if the request does not say.
    pub lock_timeout: Duration,
    /// How long a statement may run, if the request does not say.
    pub statement_timeout: Duration,
    /// How long the server lets a transaction of ours sit idle: longer than an entry in the history
    /// can take, short enough that a frozen proxy does not hold locks for ever.
    pub idle_in_transaction_timeout: Duration,
    /// How long to try for the migration lock.
    pub lock_wait: Duration,
    /// How long a cancelled statement may take to end, before its process is terminated.
    pub cancel_wait: Duration,
    /// How long to ask how a file ended whose connection was lost: covers a server's restart.
    pub settle_wait: Duration,
    /// How long to wait at the start of a run for what an earlier one left running.
    pub recover_wait: Duration,
    /// How often a statement is tried that meets a lock.
    pub retry: Retry,
    /// What preflight asks for.
    pub preflight: Preflight,
    /// Whether each new up file needs a down file, or a reason why there is none.
    pub down_required: bool,
    /// Whether the files' own tool is told of what is applied, if the request does not say.
    pub write_back: bool,
    /// What is kept of a database before its files run.
    pub backup: Backup,
    /// Of which objects the definitions are saved before a run.
    pub save_objects: SaveObjects,
    /// What a file has to leave as it was.
    pub validate: Validate,
    /// Who has to say yes to a plan.
    pub approvals: Approvals,
    /// Commands that a run waits for.
    pub hooks: Vec<Hook>,
    /// Who is told how a run goes.
    pub notify: Vec<Notify>,
    /// What is asked of a run besides that its files are applied.
    pub thresholds: Thresholds,
    /// What is watched for after a run.
    pub triggers: Vec<Trigger>,
    /// How statements are measured around a run.
    pub measures: Measures,
    /// What is tried before traffic is let in again.
    pub canary: Canary,
    /// How tables are copied within their database.
    pub copies: Copies,
    /// Where watches are kept over restarts; `None` keeps none.
    pub state_dir: Option<PathBuf>,
    /// Where what happens is written down.
    pub log: RunLog,
    /// `maintenance_work_mem` of the sessions that run files, in bytes.
    pub maintenance_work_mem: Option<u64>,
    /// What is looked at when files are applied.
    pub postflight: Postflight,
    /// Where reports and schemas are written.
    pub reports: Reports,
    /// What of the database is compared before and after a run.
    pub compare: Compare,
    /// What keeps batches waiting that do not say it themselves.
    pub batch: BatchLimits,
    /// How many runs that are over are remembered.
    pub finished_runs_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            owner: None,
            window: Duration::from_secs(5 * 60),
            lock_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30 * 60),
            idle_in_transaction_timeout: Duration::from_secs(2 * 60),
            lock_wait: Duration::from_secs(15),
            cancel_wait: Duration::from_secs(10),
            settle_wait: Duration::from_secs(2 * 60),
            recover_wait: Duration::from_secs(10),
            retry: Retry::default(),
            preflight: Preflight::default(),
            down_required: true,
            write_back: false,
            backup: Backup::default(),
            approvals: Approvals::default(),
            save_objects: SaveObjects::default(),
            validate: Validate::default(),
            thresholds: Thresholds::default(),
            triggers: Vec::new(),
            measures: Measures::default(),
            canary: Canary::default(),
            copies: Copies::default(),
            state_dir: None,
            log: RunLog::default(),
            hooks: Vec::new(),
            notify: Vec::new(),
            maintenance_work_mem: None,
            postflight: Postflight::default(),
            reports: Reports::default(),
            compare: Compare::default(),
            batch: BatchLimits::default(),
            finished_runs_max: 100,
        }
    }
}
