-- The given relations, and those whose views, rules or policies read them, however far away.
with recursive reached (oid) as (
  select unnest($1::oid[])
  union
  select next.oid from reached cross join lateral (
    select w.ev_class as oid from pg_catalog.pg_depend d
      join pg_catalog.pg_rewrite w on w.oid = d.objid
      where d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = reached.oid
        and d.classid = 'pg_catalog.pg_rewrite'::regclass
    union all
    select p.polrelid from pg_catalog.pg_depend d
      join pg_catalog.pg_policy p on p.oid = d.objid
      where d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = reached.oid
        and d.classid = 'pg_catalog.pg_policy'::regclass) next)
select oid from reached
