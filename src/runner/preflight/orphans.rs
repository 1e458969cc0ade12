//! Are there rows whose foreign key leads nowhere, in what files change?
//!
//! The server keeps that from happening, unless a key is NOT VALID or somebody loaded rows with
//! `session_replication_role = replica`. Reading all rows takes its time: what is not done within
//! `rows_time` is unknown for a key that is NOT VALID, and noted for one that the server keeps.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::Check;
use super::ground::{Ground, Work};
use crate::runner::catalog::Reader;
use crate::runner::report::chain;
use crate::runner::shape::Kind;

const NAME: &str = "orphans";

/// A query for each foreign key of these tables that finds its orphans.
const QUERIES: &str = "\
select con.conrelid, con.conname::text, con.conrelid::pg_catalog.regclass::text, con.convalidated,
  format('select from %s%s c where (%s) and not exists (select from %s%s p where %s)',
    case cc.relkind when 'r' then 'only ' else '' end,
    format('%I.%I', cn.nspname, cc.relname),
    (select string_agg(format('c.%I is not null', a.attname),
            case con.confmatchtype when 'f' then ' or ' else ' and ' end order by k.ord)
       from unnest(con.conkey) with ordinality k (att, ord)
       join pg_catalog.pg_attribute a on a.attrelid = con.conrelid and a.attnum = k.att),
    case pc.relkind when 'r' then 'only ' else '' end,
    format('%I.%I', pn.nspname, pc.relname),
    (select string_agg(format('p.%I operator(%I.%s) c.%I', pa.attname, opn.nspname, op.oprname,
            ca.attname), ' and ' order by k.ord)
       from unnest(con.conkey, con.confkey, con.conpfeqop) with ordinality k (ck, pk, eq, ord)
       join pg_catalog.pg_attribute ca on ca.attrelid = con.conrelid and ca.attnum = k.ck
       join pg_catalog.pg_attribute pa on pa.attrelid = con.confrelid and pa.attnum = k.pk
       join pg_catalog.pg_operator op on op.oid = k.eq
       join pg_catalog.pg_namespace opn on opn.oid = op.oprnamespace))
from pg_catalog.pg_constraint con
join pg_catalog.pg_class cc on cc.oid = con.conrelid
join pg_catalog.pg_namespace cn on cn.oid = cc.relnamespace
join pg_catalog.pg_class pc on pc.oid = con.confrelid
join pg_catalog.pg_namespace pn on pn.oid = pc.relnamespace
where con.contype = 'f' and con.conparentid = 0 and con.conrelid = any ($1)
  and coalesce(to_jsonb(con) ->> 'conperiod', 'false') = 'false'
  and coalesce(to_jsonb(con) ->> 'conenforced', 'true') = 'true'
order by con.convalidated, 3, 2";

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "it names the few kinds of acts that it is about"
)]
pub(super) async fn check(
    ground: &Ground<'_>,
    work: &Work<'_>,
) -> Result<Check, tokio_postgres::Error> {
    let changed = work.changed();
    let rows = work.reader.client().query(QUERIES, &[&changed]).await?;
    if rows.is_empty() {
        return Ok(Check::does_not_apply(
            NAME,
            "no file changes a table with a foreign key",
        ));
    }
    // Somebody who changes rows, or drops the key, may be about to mend just that.
    let mending: BTreeSet<u32> = work
        .acts()
        .filter_map(|(_, act, relation)| match &act.kind {
            Kind::Update { .. }
            | Kind::Delete { .. }
            | Kind::DropConstraint { .. }
            | Kind::Drop(_)
            | Kind::Truncate { .. } => Some(relation.oid),
            _ => None,
        })
        .collect();
    let mut questions = Questions::new(work.reader, ground.limits.rows_time);
    let (mut wrong, mut unknown, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        let (oid, name, table): (u32, &str, &str) = (row.get(0), row.get(1), row.get(2));
        let text = |what: &str| format!("{name} of {table}: {what}");
        match (questions.finds(row.get(4)).await, row.get(3)) {
            (Answer::No, _) => {}
            (Answer::Yes, _) if mending.contains(&oid) => {
                notes.push(text(
                    "there are orphans, and a file changes the rows or drops it",
                ));
            }
            (Answer::Yes, _) => wrong.push(text("there are rows that lead nowhere")),
            (Answer::NotKnown(why), false) => unknown.push(text(&why)),
            (Answer::NotKnown(why), true) => {
                notes.push(text(&format!("the server keeps it; {why}")))
            }
        }
    }
    questions.done().await?;
    let check = if wrong.is_empty() && !unknown.is_empty() {
        let text = "it was not found out whether rows lead nowhere";
        Check::not_known(NAME, text).with(unknown)
    } else {
        let well = format!("{} foreign keys looked at, no orphan found", rows.len());
        Check::of(NAME, wrong, well).with_notes(unknown)
    };
    Ok(check
        .hint("mend or delete the rows before; give more time by migrate.preflight.rows_time")
        .with_notes(notes))
}

/// Questions to rows, which have a time for all of them together.
pub(super) struct Questions<'a> {
    reader: &'a Reader,
    deadline: Instant,
}

/// What a question to rows was answered.
pub(super) enum Answer {
    Yes,
    No,
    /// It was not, for this reason.
    NotKnown(String),
}

impl<'a> Questions<'a> {
    pub(super) fn new(reader: &'a Reader, time: Duration) -> Self {
        Self {
            reader,
            deadline: Instant::now() + time,
        }
    }

    /// Whether a query finds a row.
    pub(super) async fn finds(&mut self, query: &str) -> Answer {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Answer::NotKnown("there was no time left to look (rows_time)".to_owned());
        }
        // Zero would be without limit.
        let ms = left.as_millis().max(1);
        let limit = format!("set statement_timeout = {ms}");
        let asked = async {
            self.reader.client().batch_execute(&limit).await?;
            self.reader.finds(query).await
        };
        match asked.await {
            Ok(true) => Answer::Yes,
            Ok(false) => Answer::No,
            Err(error) => Answer::NotKnown(chain(&error)),
        }
    }

    /// Gives the session its own limit back.
    pub(super) async fn done(self) -> Result<(), tokio_postgres::Error> {
        let client = self.reader.client();
        client.batch_execute("set statement_timeout = '5s'").await
    }
}
