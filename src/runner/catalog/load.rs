//! The questions to the catalogs.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::types::ToSql;

use super::{Catalog, Column, Constraint, Function, Index, Relation, Trigger, TypeFacts};
use crate::runner::connect::{ConnectError, Connector, Session};
use crate::runner::shape::Name;

/// Short waits and no writes: a question that has to queue is not asked. `row_security = off` makes
/// a count under a policy an error instead of a wrong answer.
const SETTINGS: &str = "\
    set default_transaction_read_only = on; \
    set default_transaction_isolation = 'read committed'; \
    set lock_timeout = '100ms'; \
    set statement_timeout = '5s'; \
    set idle_session_timeout = 0; \
    set row_security = off; \
    set standard_conforming_strings = on";

/// The error of a question.
type Result<T, E = tokio_postgres::Error> = std::result::Result<T, E>;

/// What a plan wants to know.
#[derive(Clone, Debug, Default)]
pub(in crate::runner) struct Wanted {
    /// Relations.
    pub(in crate::runner) relations: BTreeSet<Name>,
    /// Functions.
    pub(in crate::runner) functions: BTreeSet<Name>,
    /// Types, as written.
    pub(in crate::runner) types: BTreeSet<String>,
}

/// A session that only reads, and waits for nobody.
#[derive(Debug)]
pub(in crate::runner) struct Reader {
    session: Session,
}

impl Reader {
    /// Opens it, as the role that the files run as: its search path decides what names mean.
    pub(in crate::runner) async fn open(
        connector: &Connector,
        database: &str,
        owner: Option<&str>,
    ) -> Result<Self, ConnectError> {
        let session = connector.connect(database, Box::new(|_| {})).await?;
        session.client.batch_execute(SETTINGS).await?;
        if let Some(owner) = owner {
            let role = format!("set role {}", crate::runner::shape::quote(owner));
            session.client.batch_execute(&role).await?;
        }
        Ok(Self { session })
    }

    /// For questions of others; they only read, too.
    pub(in crate::runner) fn client(&self) -> &tokio_postgres::Client {
        &self.session.client
    }

    /// Ends the session.
    pub(in crate::runner) async fn close(self) {
        self.session.close(std::time::Duration::from_secs(5)).await;
    }

    /// Whether a query finds anything; an error if it may not be asked or had to wait.
    pub(in crate::runner) async fn finds(&self, query: &str) -> Result<bool> {
        let sql = format!("select exists ({query})");
        // The simple protocol: no statement that a pooler could mix up.
        let answer = self.session.client.simple_query(&sql).await?;
        Ok(answer.iter().any(|message| {
            matches!(message, tokio_postgres::SimpleQueryMessage::Row(row) if row.get(0) == Some("t"))
        }))
    }

    /// Looks everything up.
    pub(in crate::runner) async fn catalog(&self, wanted: &Wanted) -> Result<Catalog> {
        let client = &self.session.client;
        let sql = "select current_setting('server_version_num')::int4, \
                          coalesce(current_schema()::text, 'public')";
        let row = client.query_one(sql, &[]).await?;
        let mut catalog = Catalog {
            server_version: row.get(0),
            default_schema: row.get(1),
            ..Catalog::default()
        };
        self.types(wanted, &mut catalog).await?;
        self.functions(wanted, &mut catalog).await?;
        self.names(wanted, &mut catalog).await?;
        let mut oids: Vec<u32> = catalog.names.values().copied().collect();
        oids.extend(catalog.types.values().flat_map(|it| &it.used_by));
        let oids = self.related(oids).await?;
        self.relations(&oids, &mut catalog).await?;
        self.columns(&oids, &mut catalog).await?;
        self.triggers(&oids, &mut catalog).await?;
        self.constraints(&oids, &mut catalog).await?;
        self.indexes(&oids, &mut catalog).await?;
        self.trees(&oids, &mut catalog).await?;
        self.publications(&oids, &mut catalog).await?;
        Ok(catalog)
    }

    async fn names(&self, wanted: &Wanted, catalog: &mut Catalog) -> Result<()> {
        let names: Vec<_> = wanted.relations.iter().collect();
        let texts: Vec<_> = names.iter().map(|it| it.quoted()).collect();
        let sql = "select n, to_regclass(name)::oid \
                   from unnest($1::text[]) with ordinality as wanted (name, n)";
        for row in self.ask(sql, &[&texts]).await? {
            let at = usize::try_from(row.get::<_, i64>(0) - 1).unwrap_or(usize::MAX);
            if let (Some(name), Some(oid)) = (names.get(at), row.get::<_, Option<u32>>(1)) {
                catalog.names.insert((*name).clone(), oid);
            }
        }
        Ok(())
    }

    /// Relations that are locked or scanned with those: children, parents, the table of an index,
    /// both ends of foreign keys.
    async fn related(&self, oids: Vec<u32>) -> Result<Vec<u32>> {
        let sql = "with recursive down as ( \
                       select oid from unnest($1::oid[]) as given (oid) \
                       union select x.indrelid from pg_catalog.pg_index x \
                             where x.indexrelid = any ($1::oid[]) \
                       union select i.inhrelid from pg_catalog.pg_inherits i \
                             join down on i.inhparent = down.oid) \
                   select oid from down \
                   union select inhparent from pg_catalog.pg_inherits i \
                         join down on i.inhrelid = down.oid \
                   union select c.confrelid from pg_catalog.pg_constraint c \
                         join down on c.conrelid = down.oid where c.contype = 'f' \
                   union select c.conrelid from pg_catalog.pg_constraint c \
                         join down on c.confrelid = down.oid where c.contype = 'f'";
        Ok(self
            .ask(sql, &[&oids])
            .await?
            .iter()
            .map(|it| it.get(0))
            .collect())
    }

    async fn relations(&self, oids: &[u32], catalog: &mut Catalog) -> Result<()> {
        // Sizes of pg_class alone: pg_relation_size() would wait behind an ALTER.
        let sql = "select c.oid, n.nspname::text, c.relname::text, c.relkind::text, \
                          c.reltuples::int8, \
                          (c.relpages + coalesce(t.relpages, 0))::int8 * b.size, \
                          coalesce((select sum(i.relpages)::int8 from pg_catalog.pg_index x \
                                    join pg_catalog.pg_class i on i.oid = x.indexrelid \
                                    where x.indrelid = c.oid), 0) * b.size, \
                          pg_catalog.pg_has_role(c.relowner, 'USAGE'), \
                          (select x.indrelid from pg_catalog.pg_index x \
                           where x.indexrelid = c.oid), \
                          coalesce((select coalesce(s.seq_scan, 0) + coalesce(s.idx_scan, 0) \
                                    from pg_catalog.pg_stat_all_tables s where s.relid = c.oid), 0), \
                          (select nullif(partdefid, 0) from pg_catalog.pg_partitioned_table \
                           where partrelid = c.oid) \
                   from pg_catalog.pg_class c \
                   join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
                   left join pg_catalog.pg_class t on t.oid = c.reltoastrelid \
                   cross join (select current_setting('block_size')::int8 as size) b \
                   where c.oid = any ($1)";
        for row in self.ask(sql, &[&oids]).await? {
            let rows: i64 = row.get(4);
            let relation = Relation {
                oid: row.get(0),
                schema: row.get(1),
                name: row.get(2),
                kind: letter(row.get(3)),
                rows: (rows >= 0).then_some(rows),
                bytes: row.get(5),
                index_bytes: row.get(6),
                owned: row.get(7),
                table: row.get(8),
                scans: row.get(9),
                default_partition: row.get(10),
                ..Relation::default()
            };
            catalog.relations.insert(relation.oid, relation);
        }
        Ok(())
    }

    async fn columns(&self, oids: &[u32], catalog: &mut Catalog) -> Result<()> {
        let sql = "select attrelid, attnum, attname::text, \
                          pg_catalog.format_type(atttypid, atttypmod), attnotnull \
                   from pg_catalog.pg_attribute \
                   where attrelid = any ($1) and attnum > 0 and not attisdropped order by 1, 2";
        for row in self.ask(sql, &[&oids]).await? {
            let column = Column {
                number: row.get(1),
                name: row.get(2),
                ty: row.get(3),
                not_null: row.get(4),
            };
            with(catalog, row.get(0), |it| it.columns.push(column));
        }
        Ok(())
    }

    async fn triggers(&self, oids: &[u32], catalog: &mut Catalog) -> Result<()> {
        // The bits of tgtype are those of TRIGGER_TYPE_* in pg_trigger.h.
        let sql = "select t.tgrelid, t.tgname::text, p.proname::text, t.tgtype \
                   from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid \
                   where t.tgrelid = any ($1) and not t.tgisinternal and t.tgenabled in ('O', 'A') \
                   order by 1, 2";
        for row in self.ask(sql, &[&oids]).await? {
            let bits: i16 = row.get(3);
            let trigger = Trigger {
                name: row.get(1),
                function: row.get(2),
                each_row: bits & 1 != 0,
                insert: bits & 4 != 0,
                delete: bits & 8 != 0,
                update: bits & 16 != 0,
            };
            with(catalog, row.get(0), |it| it.triggers.push(trigger));
        }
        Ok(())
    }

    async fn constraints(&self, oids: &[u32], catalog: &mut Catalog) -> Result<()> {
        // `{NULLTEST ... :nulltesttype 1 ...}` as the whole expression is `column IS NOT NULL`;
        // pg_get_constraintdef() would wait behind an ALTER.
        let sql = "select conrelid, oid, conname::text, contype::text, convalidated, \
                          coalesce(conkey, '{}'), nullif(confrelid, 0), \
                          contype = 'c' and cardinality(conkey) = 1 \
                              and conbin::text like '{NULLTEST :arg {VAR %' \
                              and conbin::text like '%:nulltesttype 1 %' \
                   from pg_catalog.pg_constraint where conrelid = any ($1) order by 1, 2";
        for row in self.ask(sql, &[&oids]).await? {
            let columns: Vec<i16> = row.get(5);
            let not_null: bool = row.get::<_, Option<bool>>(7).unwrap_or_default();
            let constraint = Constraint {
                oid: row.get(1),
                name: row.get(2),
                kind: letter(row.get(3)),
                validated: row.get(4),
                says_not_null: columns.first().copied().filter(|_| not_null),
                columns,
                references: row.get(6),
            };
            with(catalog, row.get(0), |it| it.constraints.push(constraint));
        }
        Ok(())
    }

    async fn indexes(&self, oids: &[u32], catalog: &mut Catalog) -> Result<()> {
        let sql = "select x.indrelid, i.relname::text, \
                          x.indisvalid and x.indisready and x.indislive, \
                          x.indkey::int2[], x.indpred is null \
                   from pg_catalog.pg_index x join pg_catalog.pg_class i on i.oid = x.indexrelid \
                   where x.indrelid = any ($1) order by 1, 2";
        for row in self.ask(sql, &[&oids]).await? {
            let index = Index {
                name: row.get(1),
                valid: row.get(2),
                columns: row.get(3),
                whole: row.get(4),
            };
            with(catalog, row.get(0), |it| it.indexes.push(index));
        }
        Ok(())
    }

    async fn trees(&self, oids: &[u32], catalog: &mut Catalog) -> Result<()> {
        let sql = "with recursive pairs as ( \
                       select inhparent as top, inhrelid as child from pg_catalog.pg_inherits \
                       where inhparent = any ($1) \
                       union select p.top, i.inhrelid from pg_catalog.pg_inherits i \
                             join pairs p on i.inhparent = p.child) \
                   select top, child, exists (select from pg_catalog.pg_inherits i \
                          where i.inhparent = top and i.inhrelid = child) \
                   from pairs order by 1, 2";
        for row in self.ask(sql, &[&oids]).await? {
            let (top, child): (u32, u32) = (row.get(0), row.get(1));
            with(catalog, top, |it| it.children.push(child));
            if row.get(2) {
                with(catalog, child, |it| it.parents.push(top));
            }
        }
        Ok(())
    }

    /// From the catalogs, because the view `pg_publication_tables` opens every table it lists.
    async fn publications(&self, oids: &[u32], catalog: &mut Catalog) -> Result<()> {
        let by_schema = match catalog.server_version {
            150_000.. => {
                "union select p.pubname::text, c.oid from pg_catalog.pg_publication_namespace s \
                 join pg_catalog.pg_publication p on p.oid = s.pnpubid \
                 join pg_catalog.pg_class c on c.relnamespace = s.pnnspid"
            }
            _ => "",
        };
        let sql = format!(
            "with recursive up as ( \
                 select oid as child, oid from unnest($1::oid[]) as given (oid) \
                 union select up.child, i.inhparent from up \
                       join pg_catalog.pg_inherits i on i.inhrelid = up.oid), \
             published as ( \
                 select p.pubname::text as name, r.prrelid as oid \
                 from pg_catalog.pg_publication_rel r \
                 join pg_catalog.pg_publication p on p.oid = r.prpubid \
                 union select p.pubname::text, c.oid from pg_catalog.pg_publication p \
                       cross join pg_catalog.pg_class c \
                       where p.puballtables and c.relkind in ('r', 'p') \
                         and c.relpersistence = 'p' and c.oid >= 16384 {by_schema}) \
             select distinct up.child, published.name from up join published using (oid) \
             order by 1, 2"
        );
        for row in self.ask(&sql, &[&oids]).await? {
            let name: String = row.get(1);
            with(catalog, row.get(0), |it| it.publications.push(name));
        }
        Ok(())
    }

    async fn functions(&self, wanted: &Wanted, catalog: &mut Catalog) -> Result<()> {
        let names: BTreeSet<_> = wanted.functions.iter().map(|it| it.name.as_str()).collect();
        let names: Vec<_> = names.into_iter().collect();
        let sql = "select n.nspname::text, p.proname::text, max(p.provolatile::text) \
                   from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace \
                   where p.proname::text = any ($1) group by 1, 2";
        let mut found: BTreeMap<Name, Function> = BTreeMap::new();
        for row in self.ask(sql, &[&names]).await? {
            let schema: String = row.get(0);
            let function = Function {
                // The letters i, s, v stand in the order of stability.
                volatile: letter(row.get(2)),
                builtin: schema == "pg_catalog",
            };
            let name = Name {
                schema: Some(schema),
                name: row.get(1),
            };
            found.insert(name, function);
        }
        for asked in &wanted.functions {
            let fits = |name: &Name| {
                name.name == asked.name && (asked.schema.is_none() || asked.schema == name.schema)
            };
            let all: Vec<_> = found.iter().filter(|(name, _)| fits(name)).collect();
            let worst = all.iter().map(|(_, it)| it.volatile).max();
            if let Some(volatile) = worst {
                let builtin = all.iter().all(|(_, it)| it.builtin);
                let function = Function { volatile, builtin };
                catalog.functions.insert(asked.clone(), function);
            }
        }
        Ok(())
    }

    async fn types(&self, wanted: &Wanted, catalog: &mut Catalog) -> Result<()> {
        let sql = "with recursive chain as ( \
                       select t.oid, t.typtype, t.typnotnull, t.typbasetype \
                       from pg_catalog.pg_type t where t.oid = to_regtype($1)::oid \
                       union all select b.oid, b.typtype, b.typnotnull, b.typbasetype \
                             from pg_catalog.pg_type b join chain on b.oid = chain.typbasetype) \
                   select bool_or(chain.typtype = 'd' and (chain.typnotnull or exists ( \
                              select from pg_catalog.pg_constraint where contypid = chain.oid))), \
                          array(select distinct a.attrelid from pg_catalog.pg_attribute a \
                                join pg_catalog.pg_class c on c.oid = a.attrelid \
                                where a.atttypid = to_regtype($1)::oid and not a.attisdropped \
                                  and c.relkind in ('r', 'p', 'm')) \
                   from chain";
        for ty in &wanted.types {
            // Its own statement each: what is no type is an error in some versions.
            let Ok(rows) = self.ask(sql, &[ty]).await else {
                continue;
            };
            let Some(row) = rows.first() else { continue };
            let Some(constrained_domain) = row.get(0) else {
                continue;
            };
            let facts = TypeFacts {
                constrained_domain,
                used_by: row.get(1),
            };
            catalog.types.insert(ty.clone(), facts);
        }
        Ok(())
    }

    /// What goes with an object when it is dropped, and whether only CASCADE lets it go.
    ///
    /// Follows `pg_depend` as `findDependentObjects` in `dependency.c` does: dependents of any kind,
    /// and the owner of what is only a part of it (a view, of its rule). What goes by itself with the
    /// object, such as a CHECK on a column, is not listed. Text bodies of functions
    /// have no dependencies.
    pub(in crate::runner) async fn dependents(
        &self,
        class: &str,
        oid: u32,
        column: i32,
    ) -> Result<Vec<String>> {
        let sql = "with recursive start as ( \
                       select $1::text::regclass::oid as classid, $2::oid as objid, $3::int4 as objsubid), \
                   gone (classid, objid, objsubid, far) as ( \
                       select classid, objid, objsubid, false from start \
                       union select next.classid, next.objid, next.objsubid, next.far \
                       from gone cross join lateral ( \
                           select d.classid, d.objid, d.objsubid, gone.far or d.deptype = 'n' as far \
                           from pg_catalog.pg_depend d \
                           where d.refclassid = gone.classid and d.refobjid = gone.objid \
                             and (gone.objsubid = 0 or d.refobjsubid = gone.objsubid) \
                           union all \
                           select d.refclassid, d.refobjid, d.refobjsubid, gone.far \
                           from pg_catalog.pg_depend d \
                           where d.classid = gone.classid and d.objid = gone.objid \
                             and d.objsubid = gone.objsubid and d.deptype = 'i' and gone.far \
                       ) next) \
                   select distinct pg_catalog.pg_describe_object(g.classid, g.objid, g.objsubid) as it \
                   from gone g \
                   where g.far and (g.classid, g.objid) not in (select classid, objid from start) \
                     and not exists (select from pg_catalog.pg_depend d join start s \
                             on d.refclassid = s.classid and d.refobjid = s.objid \
                                and (s.objsubid = 0 or d.refobjsubid = s.objsubid) \
                             where d.classid = g.classid and d.objid = g.objid \
                               and d.deptype in ('a', 'i')) \
                     and (g.classid in ('pg_constraint'::regclass, 'pg_proc'::regclass, \
                                        'pg_policy'::regclass, 'pg_publication_rel'::regclass) \
                          or g.classid = 'pg_trigger'::regclass and exists ( \
                                 select from pg_catalog.pg_trigger t where t.oid = g.objid \
                                    and not t.tgisinternal) \
                          or g.classid = 'pg_class'::regclass and exists ( \
                                 select from pg_catalog.pg_class c where c.oid = g.objid \
                                    and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')) \
                          or g.classid = 'pg_type'::regclass and exists ( \
                                 select from pg_catalog.pg_type t where t.oid = g.objid \
                                    and t.typrelid = 0 and t.typelem = 0)) \
                   order by 1 limit 200";
        let rows = self.ask(sql, &[&class, &oid, &column]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// The oid of a type or a function that is dropped by name; a function of several is unknown.
    pub(in crate::runner) async fn object(&self, class: &str, name: &Name) -> Result<Option<u32>> {
        let sql = match class {
            "pg_type" => "select to_regtype($1)::oid",
            "pg_namespace" => "select to_regnamespace($1)::oid",
            _ => "select to_regproc($1)::oid",
        };
        let rows = self.ask(sql, &[&name.quoted()]).await?;
        Ok(rows.first().and_then(|row| row.get(0)))
    }

    async fn ask(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>> {
        self.session.client.query(sql, parameters).await
    }
}

fn letter(text: &str) -> char {
    text.chars().next().unwrap_or('?')
}

fn with(catalog: &mut Catalog, oid: u32, change: impl FnOnce(&mut Relation)) {
    if let Some(relation) = catalog.relations.get_mut(&oid) {
        change(relation);
    }
}
