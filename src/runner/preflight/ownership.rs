//! Does what files change belong to the role that they run as? DDL asks for it (42501).

use std::collections::{BTreeMap, BTreeSet};

use super::Check;
use super::ground::{Ground, Work};
use crate::runner::lint::is_ddl;

const NAME: &str = "ownership";

pub(super) async fn check(
    ground: &Ground<'_>,
    work: &Work<'_>,
) -> Result<Check, tokio_postgres::Error> {
    let mut wanted: BTreeMap<Option<&str>, BTreeSet<u32>> = BTreeMap::new();
    for (step, act, relation) in work.acts() {
        if is_ddl(act) {
            let own = step.step.script.directives().owner.as_deref();
            let role = own.or(ground.owner);
            wanted.entry(role).or_default().insert(relation.oid);
        }
    }
    if wanted.is_empty() {
        return Ok(Check::does_not_apply(
            NAME,
            "no file changes a table that is there",
        ));
    }
    // A role that does not exist is told by another check.
    let sql = "select format('%s belongs to %s, and the file runs as %s', c.oid::regclass, \
                      pg_get_userbyid(c.relowner), r.rolname) \
               from pg_class c \
               join pg_roles r on r.rolname = coalesce($2::text::name, session_user) \
               where c.oid = any ($1) and not pg_has_role(r.oid, c.relowner, 'USAGE') \
               order by 1";
    let mut wrong = Vec::new();
    for (role, oids) in &wanted {
        let oids: Vec<_> = oids.iter().copied().collect();
        wrong.extend(ground.lines(sql, &[&oids, role]).await?);
    }
    let well = "what the files change belongs to the role that they run as";
    Ok(Check::of(NAME, wrong, well)
        .hint("run the files as the owner: migrate.owner, or `-- pgdrain:owner ROLE` in the file"))
}
