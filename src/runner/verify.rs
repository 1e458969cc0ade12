//! Is a database as it should be after its migrations? And is another one like it? Reads only.
//!
//! The same checks whenever it is asked: what the history has, what the catalogs have, and the schema as
//! a list of lines, so that two environments can be compared by their reports alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use tokio_util::task::TaskTracker;

use super::connect::{Connector, Session};
use super::history::{Ledger, LedgerError, Row};
use super::plan::{self, Problem, Wish};
use super::preflight::Check;
use super::report::chain;
use super::source::{self, Format, PostedFile, Sha256};
use super::traffic::Traffic;
use super::types::{Direction, Exit, TrafficMode};
use super::{Runner, StatusError, adopt, backup, rehearse, texts, today};
use crate::config::Secret;
use crate::server::own::OwnBackends;

/// Body of `POST /v1/databases/{db}/migrations/verify`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyRequest {
    /// Every file of the directory; without any, checksums are not compared.
    #[serde(default)]
    pub files: Vec<PostedFile>,
    /// How the files are named and written; told by their names if it is not said.
    #[serde(default)]
    pub format: Option<Format>,
    /// The table in which the format's own tool keeps its history, as `schema.table`.
    #[serde(default)]
    pub history: Option<String>,
}

/// Answer of `POST /v1/databases/{db}/migrations/verify`, and the content of
/// `postflight-report-<timestamp>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// The database.
    pub database: String,
    /// When everything had been looked at.
    pub at: jiff::Timestamp,
    /// The version of pgdrain that looked.
    pub pgdrain: String,
    /// Whether every check was passed.
    pub passed: bool,
    /// The same for a shell: 0, or 3 when a check was not passed.
    pub exit_code: u8,
    /// Every check.
    pub checks: Vec<Check>,
    /// The SHA-256 of the schema; none if it could not be read.
    pub fingerprint: Option<String>,
    /// The schema without pgdrain's own, a line for each of its parts (kind, name and definition, parted by
    /// tabs), sorted; no rows, no oids.
    pub schema: Vec<String>,
}

/// Indexes that no query uses and every write pays for; not those that somebody builds just now.
pub(super) const INDEXES: &str = "\
    select format('%s on %s is invalid', x.indexrelid::pg_catalog.regclass, \
                  x.indrelid::pg_catalog.regclass) \
    from pg_catalog.pg_index x join pg_catalog.pg_class c on c.oid = x.indexrelid \
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
    where not (x.indisvalid and x.indisready and x.indislive) and c.relkind = 'i' \
      and n.nspname !~ '^pg_' \
      and not exists (select from pg_catalog.pg_stat_progress_create_index p \
                      where p.index_relid = c.oid) \
    order by 1";

/// Constraints that existing rows were never held against.
pub(super) const CONSTRAINTS: &str = "\
    select format('%s on %s is NOT VALID', c.conname, c.conrelid::pg_catalog.regclass) \
    from pg_catalog.pg_constraint c join pg_catalog.pg_namespace n on n.oid = c.connamespace \
    where not c.convalidated and c.conrelid <> 0 and n.nspname !~ '^pg_' \
      and coalesce(to_jsonb(c) ->> 'conenforced', 'true') = 'true' \
    order by 1";

/// Looks at a database that no configuration of ours names, as its URL says: another environment. Gives what
/// to call it, without a password, too.
///
/// # Errors
/// When the URL cannot be used, or nobody answers there; in words that hold no secret.
pub async fn elsewhere(url: &Secret) -> Result<(String, VerifyReport), String> {
    let url = url.clone();
    // It may read libpq's files.
    let found = tokio::task::spawn_blocking(move || rehearse::endpoint(&url)).await;
    let (endpoint, database) = found.map_err(|it| it.to_string())??;
    let name = endpoint
        .hosts
        .first()
        .map(|it| format!("{database} at {it}"));
    let tasks = TaskTracker::new();
    let find = Arc::new(move |_: &str| Some(endpoint.clone()));
    let connector = Arc::new(Connector::new(find, OwnBackends::default(), tasks));
    let looked = look(&connector, &database, None, None).await;
    let report = looked.map_err(|error| error.to_string())?;
    Ok((name.unwrap_or(database), report))
}

impl<T: Traffic> Runner<T> {
    /// Looks whether a database is as it should be. Writes nothing and takes no lock of ours.
    ///
    /// # Errors
    /// When the files cannot be used, or the database cannot be reached.
    pub async fn verify(
        &self,
        database: &str,
        request: &VerifyRequest,
    ) -> Result<VerifyReport, StatusError> {
        let reading = match request.files.as_slice() {
            [] => None,
            files => Some(
                source::read(files, request.format)
                    .map_err(|it| StatusError::Invalid(texts(&it)))?,
            ),
        };
        let history = request.history.as_deref();
        Ok(look(&self.connector, database, reading.as_ref(), history).await?)
    }
}

/// Makes every check, and reads the schema.
async fn look(
    connector: &Arc<Connector>,
    database: &str,
    reading: Option<&source::Reading>,
    history: Option<&str>,
) -> Result<VerifyReport, LedgerError> {
    let ledger = Ledger::open(connector, database).await?;
    let looked = async {
        let rows = ledger.rows().await?;
        let mut checks = vec![dirty(&rows)];
        if let Some(reading) = reading {
            checks.push(checksums(&ledger, reading, history, rows).await?);
        }
        let session = ledger.session();
        checks.push(of_catalog(session, "indexes", INDEXES, "no index is invalid").await);
        let well = "every constraint holds for all rows";
        checks.push(of_catalog(session, "constraints", CONSTRAINTS, well).await);
        let schema = backup::schema(&session.client, SCHEMA_TIME).await;
        Ok::<_, LedgerError>((checks, schema))
    };
    let looked = looked.await;
    ledger.close().await;
    let (mut checks, schema) = looked?;
    let schema = match schema {
        Ok(lines) => {
            let text = format!("the schema has {} parts", lines.len());
            checks.push(Check::passed("schema", text));
            lines
        }
        Err(error) => {
            checks.push(Check::unknown("schema", &error));
            Vec::new()
        }
    };
    let passed = checks.iter().all(Check::is_passed);
    let exit = match passed {
        true => Exit::Success,
        false => Exit::Postflight,
    };
    Ok(VerifyReport {
        database: database.to_owned(),
        at: jiff::Timestamp::now(),
        pgdrain: env!("CARGO_PKG_VERSION").to_owned(),
        passed,
        exit_code: exit.code(),
        checks,
        fingerprint: (!schema.is_empty())
            .then(|| Sha256::of(schema.join("\n").as_bytes()).to_string()),
        schema,
    })
}

pub(super) fn dirty(rows: &[Row]) -> Check {
    let wrong: Vec<_> = rows.iter().filter_map(Row::dirty).collect();
    match wrong.len() {
        0 => Check::passed("dirty", "no migration stands part-way"),
        many => {
            let mut check = Check::failed("dirty", format!("{many} migrations stand part-way"));
            check.details = wrong;
            check.hint = Some("`pgdrain migrate repair` looks at what they left".to_owned());
            check
        }
    }
}

/// The files of what is applied are what they were, and whole.
pub(super) async fn checksums(
    ledger: &Ledger,
    reading: &source::Reading,
    history: Option<&str>,
    rows: Vec<Row>,
) -> Result<Check, LedgerError> {
    let (set, known) = adopt::learn(ledger.session(), reading, history, rows).await?;
    let wish = Wish {
        direction: Direction::Up,
        steps: None,
        traffic: TrafficMode::Auto,
        today: today(),
        down_required: false,
    };
    let about_files = |it: &Problem| matches!(it, Problem::Changed { .. } | Problem::Missing(..));
    let built = plan::build(set, &known.rows, wish);
    let problems = built.err().unwrap_or_default();
    let wrong = problems
        .iter()
        .filter(|it| about_files(it))
        .map(ToString::to_string);
    let details: Vec<_> = wrong.chain(texts(&known.problems)).collect();
    if details.is_empty() {
        return Ok(Check::passed(
            "checksums",
            "every applied file is what it was",
        ));
    }
    let mut check = Check::failed("checksums", "files and history do not agree");
    check.details = details;
    check.hint = Some("bring the files back as they were applied".to_owned());
    Ok(check)
}

/// The first column of a query.
pub(super) async fn lines(
    client: &Client,
    sql: &str,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let rows = client.query(sql, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// A check that fails for each row of a query.
async fn of_catalog(session: &Session, name: &str, sql: &str, well: &str) -> Check {
    match lines(&session.client, sql).await {
        Ok(lines) if lines.is_empty() => Check::passed(name, well),
        Ok(lines) => {
            let text = format!("{} are not as they should be", lines.len());
            Check::failed(name, text).with(lines)
        }
        Err(error) => {
            tracing::warn!(name, error = chain(&error), "a check could not be made");
            Check::unknown(name, &error)
        }
    }
}

/// How long the schema may take to be read.
pub(super) const SCHEMA_TIME: Duration = Duration::from_secs(60);

/// What only one of two schemas has, in the order of both: lines that begin with `-` are in the first,
/// those with `+` in the second.
pub fn differences(first: &[String], second: &[String]) -> Vec<String> {
    let only = |of: &[String], other: &[String], mark: char| -> Vec<(String, char)> {
        let other: BTreeSet<&String> = other.iter().collect();
        let missing = of.iter().filter(|it| !other.contains(it));
        missing.map(|it| (it.clone(), mark)).collect()
    };
    let mut lines = only(first, second, '-');
    lines.extend(only(second, first, '+'));
    lines.sort();
    let shown = lines
        .into_iter()
        .map(|(line, mark)| format!("{mark} {}", line.replace('\t', " ")));
    shown.collect()
}

/// The lines of a schema but those about pgdrain's own.
pub(super) fn without_own(mut lines: Vec<String>) -> Vec<String> {
    lines.retain(|line| {
        let name = line.split('\t').nth(1).unwrap_or_default();
        let own = |schema: &str| {
            let rest = name.strip_prefix(schema);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        !own("pgdrain") && !own(super::copies::SCHEMA)
    });
    lines
}

/// The session's limits while the schema is read: it waits for nobody for long.
pub(super) async fn limit(client: &Client, time: Duration) -> Result<(), tokio_postgres::Error> {
    // Zero would be without limit.
    let time = time.as_millis().max(1);
    let sql = format!("set local lock_timeout = '5s'; set local statement_timeout = '{time}ms'");
    client.batch_execute(&sql).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_say_who_has_what() {
        let lines = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let first = lines(&["column\ta\tint", "index\ti\tx"]);
        let second = lines(&["column\ta\ttext", "index\ti\tx", "view\tv\ty"]);
        assert!(differences(&first, &first).is_empty());
        let found = differences(&first, &second);
        assert_eq!(found, ["- column a int", "+ column a text", "+ view v y"]);
    }

    #[test]
    fn pgdrains_own_is_left_out_and_nothing_else() {
        let all = [
            "schema\tpgdrain\t",
            "rel\tpgdrain.run\tr",
            "rel\tshop.pgdrain\tr",
        ];
        let kept = without_own(all.iter().map(ToString::to_string).collect());
        assert_eq!(kept, ["rel\tshop.pgdrain\tr"]);
    }
}
