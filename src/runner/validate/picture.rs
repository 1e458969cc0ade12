//! What the catalogs say about who may do what, and what counts.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Client;

use crate::runner::saved::{Grants, grants};
use crate::runner::shape::Name;

/// Relations, raw. A view is what its rule is, in the server's own form, which no renaming of what it
/// reads changes. `writes` is asked of $1 and of the names in $2, of all views if $3 says so: bits for
/// UPDATE (4), INSERT (8) and DELETE (16). A table takes all of them, and is not asked: that would wait
/// for whoever locks it, before the file's own statements do, which are tried again.
const RELATIONS: &str = "\
    select c.oid, n.nspname::text, c.relname::text, c.relkind::text, \
           pg_catalog.pg_get_userbyid(c.relowner)::text, c.relrowsecurity, c.relforcerowsecurity, \
           coalesce((select bool_or(o = 'security_invoker=true' or o = 'security_invoker=on' \
                                    or o = 'security_invoker=1' or o = 'security_invoker=yes') \
                     from unnest(c.reloptions) o), false), \
           (select pg_catalog.md5(w.ev_action::text || coalesce(c.reloptions::text, '')) \
            from pg_catalog.pg_rewrite w where w.ev_class = c.oid and w.rulename = '_RETURN'), \
           case when c.oid = any ($1) or format('%I.%I', n.nspname, c.relname) = any ($2) \
                     or $3 and c.relkind = 'v' \
                then case when c.relkind in ('r', 'p') then 28 \
                          when c.relkind = 'v' then pg_catalog.pg_relation_is_updatable(c.oid, true) \
                     end end, \
           format('%I.%I', n.nspname, c.relname), \
           case c.relkind when 'S' then ( \
                select d.refobjid from pg_catalog.pg_depend d \
                where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = c.oid \
                  and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
                  and d.deptype in ('a', 'i') limit 1) end \
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
    where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and c.relpersistence <> 't' \
      and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'pgdrain', 'pgdrain_copies') \
      and not exists (select from pg_catalog.pg_depend d \
                      where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
                        and d.objid = c.oid and d.deptype = 'e')";

/// Policies: raw, and as text where the file touches the table.
const POLICIES: &str = "\
    select p.polrelid, p.polname::text, \
           concat_ws(' ', p.polpermissive, p.polcmd, \
                (select string_agg(r.role::text, ',' order by r.role) from unnest(p.polroles) r (role))), \
           coalesce(p.polqual::text, '') || ' ' || coalesce(p.polwithcheck::text, ''), \
           case when p.polrelid = any ($1) or format('%I.%I', n.nspname, c.relname) = any ($2) then \
                concat_ws(' / ', pg_catalog.pg_get_expr(p.polqual, p.polrelid), \
                          pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)) end \
    from pg_catalog.pg_policy p join pg_catalog.pg_class c on c.oid = p.polrelid \
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace";

const NOT_VALID: &str = "\
    select con.oid, con.conname::text, n.nspname::text, c.relname::text, format('%I.%I', n.nspname, c.relname) \
    from pg_catalog.pg_constraint con join pg_catalog.pg_class c on c.oid = con.conrelid \
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
    where not con.convalidated and coalesce(to_jsonb(con) ->> 'conenforced', 'true') = 'true'";

/// The index of a partitioned table is invalid until the last partition has its own, and one that somebody
/// builds until it is built: these are no failures.
const INVALID: &str = "\
    select i.oid, n.nspname::text, i.relname::text, t.relname::text, format('%I.%I', n.nspname, i.relname) \
    from pg_catalog.pg_index x join pg_catalog.pg_class i on i.oid = x.indexrelid \
    join pg_catalog.pg_class t on t.oid = x.indrelid \
    join pg_catalog.pg_namespace n on n.oid = i.relnamespace \
    where i.relkind = 'i' and not (x.indisvalid and x.indisready and x.indislive) \
      and not exists (select from pg_catalog.pg_stat_progress_create_index p \
                      where p.index_relid = i.oid and p.pid <> pg_catalog.pg_backend_pid())";

/// A relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::runner) struct Relation {
    pub(super) oid: u32,
    pub(super) name: Name,
    pub(super) shown: String,
    /// `relkind`.
    pub(super) kind: char,
    pub(super) owner: String,
    /// Whether policies count for others, and for the owner.
    pub(super) row_security: bool,
    pub(super) forced: bool,
    /// A view that reads as whoever asks it.
    pub(super) invoker: bool,
    /// A digest of what a view is.
    pub(super) body: Option<String>,
    /// What can be written, where that was asked.
    pub(super) writes: Option<i32>,
    /// The table whose column a sequence is for: it goes where that goes.
    pub(super) part_of: Option<u32>,
}

impl Relation {
    pub(super) fn is_view(&self) -> bool {
        matches!(self.kind, 'v' | 'm')
    }

    pub(super) fn is_table(&self) -> bool {
        matches!(self.kind, 'r' | 'p')
    }
}

/// A policy: what it is for, and its conditions in two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) about: String,
    pub(super) raw: String,
    pub(super) text: Option<String>,
}

impl Policy {
    /// Whether two say the same. The raw form stays when a column is renamed, the text when a table is
    /// made anew.
    pub(super) fn says(&self, other: &Self) -> bool {
        self.about == other.about
            && (self.raw == other.raw || self.text.is_some() && self.text == other.text)
    }
}

/// Something that does not count for all rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Invalid {
    pub(super) schema: String,
    /// Of the constraint, or of the index.
    pub(super) name: String,
    pub(super) table: String,
    pub(super) shown: String,
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::runner) struct Picture {
    pub(super) relations: BTreeMap<u32, Relation>,
    pub(super) grants: Vec<Grants>,
    pub(super) policies: BTreeMap<(u32, String), Policy>,
    pub(super) not_valid: BTreeMap<u32, Invalid>,
    pub(super) invalid: BTreeMap<u32, Invalid>,
}

/// The relations that these names mean in this session, and the views above them.
pub(in crate::runner) async fn touched(
    client: &Client,
    names: &[String],
) -> Result<Vec<u32>, tokio_postgres::Error> {
    let sql = "select pg_catalog.to_regclass(name)::oid from pg_catalog.unnest($1::text[]) name";
    let rows = client.query(sql, &[&names]).await?;
    let oids: Vec<u32> = rows.iter().filter_map(|row| row.get(0)).collect();
    let sql = include_str!("../saved/scope.sql");
    let rows = client.query(sql, &[&oids]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

impl Picture {
    /// What there is, with an empty search path. `of` are the relations that the file touches, `like`
    /// what there was before it; `every` view is asked what can be written if nobody can tell what a
    /// file touches.
    pub(in crate::runner) async fn take(
        client: &Client,
        of: &[u32],
        like: Option<&Self>,
        every: bool,
    ) -> Result<Self, tokio_postgres::Error> {
        let names: BTreeSet<&str> = like
            .into_iter()
            .flat_map(|it| it.relations.values())
            .filter(|it| it.writes.is_some())
            .map(|it| it.shown.as_str())
            .collect();
        let names: Vec<_> = names.into_iter().collect();
        let mut picture = Self {
            grants: grants(client, None, &[]).await?,
            ..Self::default()
        };
        for row in client.query(RELATIONS, &[&of, &names, &every]).await? {
            let relation = Relation {
                oid: row.get(0),
                name: Name {
                    schema: row.get(1),
                    name: row.get(2),
                },
                kind: row.get::<_, &str>(3).chars().next().unwrap_or('?'),
                owner: row.get(4),
                row_security: row.get(5),
                forced: row.get(6),
                invoker: row.get(7),
                body: row.get(8),
                writes: row.get(9),
                shown: row.get(10),
                part_of: row.get(11),
            };
            picture.relations.insert(relation.oid, relation);
        }
        for row in client.query(POLICIES, &[&of, &names]).await? {
            let policy = Policy {
                about: row.get(2),
                raw: row.get(3),
                text: row.get(4),
            };
            picture.policies.insert((row.get(0), row.get(1)), policy);
        }
        for row in client.query(NOT_VALID, &[]).await? {
            let it = Invalid {
                name: row.get(1),
                schema: row.get(2),
                table: row.get(3),
                shown: row.get(4),
            };
            picture.not_valid.insert(row.get(0), it);
        }
        for row in client.query(INVALID, &[]).await? {
            let it = Invalid {
                schema: row.get(1),
                name: row.get(2),
                table: row.get(3),
                shown: row.get(4),
            };
            picture.invalid.insert(row.get(0), it);
        }
        Ok(picture)
    }
}
