-- Who may do what with the relations in $1, their columns and schemas, and with the functions whose
-- name is in $2 (with all of them where $1 and $2 are null): a row for each privilege, and one without
-- for what nobody may use.
with ns as (
  select * from pg_catalog.pg_namespace
  where nspname !~ '^pg_' and nspname not in ('information_schema', 'pgdrain', 'pgdrain_copies')),
rel as (
  select c.*, format('%I.%I', ns.nspname, c.relname) as name
  from pg_catalog.pg_class c join ns on ns.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and c.relpersistence <> 't'
    and ($1::oid[] is null or c.oid = any ($1::oid[]))
    and not exists (select from pg_catalog.pg_depend d
                    where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid
                      and d.deptype = 'e')),
object (class, oid, name, schema, bare, col, owner, acl, whole) as (
  select case relkind when 'S' then 'SEQUENCE' else 'TABLE' end, rel.oid, name,
         (select nspname from ns where ns.oid = relnamespace), relname, null::name, relowner,
         coalesce(relacl, standard.acl), standard.acl
  from rel cross join lateral (
    select acldefault((case relkind when 'S' then 's' else 'r' end)::"char", relowner) as acl) standard
  union all
  select 'TABLE', rel.oid, rel.name, (select nspname from ns where ns.oid = relnamespace), relname,
         a.attname, rel.relowner, a.attacl, null
  from rel join pg_catalog.pg_attribute a on a.attrelid = rel.oid
  where a.attnum > 0 and not a.attisdropped and a.attacl is not null
  union all
  select 'SCHEMA', oid, quote_ident(nspname), nspname, nspname, null, nspowner,
         coalesce(nspacl, acldefault('n', nspowner)), acldefault('n', nspowner)
  from ns where $1::oid[] is null or oid in (select relnamespace from rel)
  union all
  select 'ROUTINE', p.oid,
         p.oid::regprocedure::text,
         ns.nspname, p.proname, null, p.proowner, coalesce(p.proacl, acldefault('f', p.proowner)),
         acldefault('f', p.proowner)
  from pg_catalog.pg_proc p join ns on ns.oid = p.pronamespace
  where ($1::oid[] is null or p.proname::text = any ($2::text[]))
    and not exists (select from pg_catalog.pg_depend d
                    where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid
                      and d.deptype = 'e'))
select o.class, o.oid, o.name, o.schema::text, o.bare::text, o.col::text,
       pg_catalog.pg_get_userbyid(o.owner)::text,
       case x.grantee when 0 then null else pg_catalog.pg_get_userbyid(x.grantee)::text end,
       x.privilege_type, coalesce(x.is_grantable, false),
       pg_catalog.pg_get_userbyid(x.grantor)::text,
       (select count(*) from aclexplode(o.whole) w where w.grantee = o.owner)::int4
from object o left join lateral aclexplode(o.acl) x on true
order by 1, 3, 6 nulls first, 8 nulls first, 9, 11
