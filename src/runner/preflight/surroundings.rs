//! The checks of what is around: who else is there, what files touch, whether there is room.

use tokio_postgres::Error;

use super::ground::{Ground, Work};
use super::{
    Check, Plan, Session, Subject, archiver, autovacuum, backup, backups, blocking_locks, commands,
    connections, constraints, disk, drift, extensions, idle_in_transaction, indexes,
    long_transactions, monitoring, orphans, owners, ownership, prepared_transactions, relations,
    replication, required, slots, version,
};
use crate::config::{Preflight, PreflightCheck};
use crate::runner::plan;
use crate::runner::survey::Survey;
use crate::runner::types::StepTraffic;

/// Those that need a plan.
const ABOUT_FILES: [PreflightCheck; 10] = [
    PreflightCheck::Owners,
    PreflightCheck::Ownership,
    PreflightCheck::Extensions,
    PreflightCheck::PreparedTransactions,
    PreflightCheck::Autovacuum,
    PreflightCheck::Indexes,
    PreflightCheck::Constraints,
    PreflightCheck::Orphans,
    PreflightCheck::Relations,
    PreflightCheck::Disk,
];

/// Makes every check that is not about files and history themselves. Changes nothing.
pub(super) async fn examine(
    session: &Session,
    subject: &Subject<'_>,
    plan: Option<&Plan>,
) -> Vec<Check> {
    use PreflightCheck as Name;
    let limits = subject.limits;
    let steps = plan.iter().flat_map(|it| &it.steps);
    let ground = Ground {
        session,
        limits,
        connector: subject.connector,
        database: subject.database,
        backup: subject.backup,
        makes_backup: subject.makes_backup,
        owner: subject.owner,
        own: subject.connector.own_pids(),
        open: steps.into_iter().any(|it| it.traffic == StepTraffic::Open),
    };
    let mut checks = vec![
        made(
            limits,
            Name::LongTransactions,
            long_transactions::check(&ground),
        )
        .await,
        made(
            limits,
            Name::IdleInTransaction,
            idle_in_transaction::check(&ground),
        )
        .await,
        made(limits, Name::BlockingLocks, blocking_locks::check(&ground)).await,
        made(limits, Name::Backups, backups::check(&ground)).await,
        made(limits, Name::Connections, connections::check(&ground)).await,
        made(limits, Name::Replication, replication::check(&ground)).await,
        made(limits, Name::Slots, slots::check(&ground)).await,
        made(limits, Name::Archiver, archiver::check(&ground)).await,
        made(limits, Name::Drift, drift::check(&ground)).await,
        made(limits, Name::Required, required::check(&ground)).await,
        made(limits, Name::Monitoring, monitoring::check(&ground)).await,
        made(limits, Name::Version, version::check(&ground)).await,
        made(limits, Name::Backup, backup::check(&ground)).await,
        made(limits, Name::Commands, commands::check(&ground)).await,
    ];
    match plan {
        Some(plan) => checks.extend(about_files(&ground, subject, plan).await),
        None => checks.extend(ABOUT_FILES.map(|it| {
            let text = "there is no plan: see what is wrong with files and history";
            Check::not_known(it.as_str(), text).hint("make the other checks pass first")
        })),
    }
    checks
}

/// The checks of what the files of a plan touch.
async fn about_files(ground: &Ground<'_>, subject: &Subject<'_>, plan: &Plan) -> Vec<Check> {
    use PreflightCheck as Name;
    let limits = ground.limits;
    let survey = Survey::of(subject.connector, subject.database, subject.owner, plan).await;
    let survey = match survey {
        Ok(survey) => survey,
        Err(error) => {
            let unknown = |it: Name| Check::unknown(it.as_str(), &error);
            return ABOUT_FILES.map(unknown).into();
        }
    };
    let studied = plan::study(plan, Some(&survey.catalog));
    let work = Work::new(plan, &studied, &survey.catalog, &survey.reader);
    let mut checks = vec![
        made(limits, Name::Owners, owners::check(ground, &work)).await,
        made(limits, Name::Ownership, ownership::check(ground, &work)).await,
        made(limits, Name::Extensions, extensions::check(ground, &work)).await,
        made(
            limits,
            Name::PreparedTransactions,
            prepared_transactions::check(ground, &work),
        )
        .await,
        made(limits, Name::Autovacuum, autovacuum::check(ground, &work)).await,
        made(limits, Name::Indexes, indexes::check(&work)).await,
        made(limits, Name::Constraints, constraints::check(ground, &work)).await,
        made(limits, Name::Orphans, orphans::check(ground, &work)).await,
        made(limits, Name::Relations, relations::check(ground, &work)).await,
        made(limits, Name::Disk, disk::check(ground, &work)).await,
    ];
    if work.unknown {
        let note = "a file holds what is not understood: what it touches was not looked at";
        for check in &mut checks {
            check.details.push(note.to_owned());
        }
    }
    drop(work);
    drop(studied);
    survey.reader.close().await;
    checks
}

/// Makes a check unless it is switched off; what cannot be asked is unknown.
async fn made(
    limits: &Preflight,
    name: PreflightCheck,
    check: impl Future<Output = Result<Check, Error>>,
) -> Check {
    if limits.off.contains(&name) {
        return Check::passed(name.as_str(), "switched off (migrate.preflight.off)");
    }
    match check.await {
        Ok(check) => check,
        Err(error) => Check::unknown(name.as_str(), &error),
    }
}
