-- Views, rules, triggers, policies and the switches of row security of the relations in $1 (all of
-- them if it is null), each with the statements that make it from nothing. In a transaction with an
-- empty search_path, so that every name in a definition is whole. Ordered as they can be made.
with recursive
ns as (
  select oid, nspname from pg_catalog.pg_namespace
  where nspname !~ '^pg_' and nspname not in ('information_schema', 'pgdrain', 'pgdrain_copies')),
rel as (
  select c.*, format('%I.%I', ns.nspname, c.relname) as name
  from pg_catalog.pg_class c join ns on ns.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relpersistence <> 't'
    and ($1::oid[] is null or c.oid = any ($1::oid[]))
    and not exists (select from pg_catalog.pg_depend d
                    where d.classid = 'pg_catalog.pg_class'::regclass and d.objid = c.oid
                      and d.deptype = 'e')),
dep as (
  select distinct w.ev_class as oid, d.refobjid as ref
  from pg_catalog.pg_rewrite w
  join rel on rel.oid = w.ev_class and rel.relkind in ('v', 'm')
  join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_rewrite'::regclass and d.objid = w.oid
       and d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid <> w.ev_class
  join rel other on other.oid = d.refobjid and other.relkind in ('v', 'm')),
level (oid, level) as (
  select oid, 0 from rel where relkind in ('v', 'm')
  union
  select dep.oid, level.level + 1 from level join dep on dep.ref = level.oid where level.level < 200),
opts as (
  select oid, ' WITH (' || (
      select string_agg(format('%s=%L', split_part(o, '=', 1), substr(o, strpos(o, '=') + 1)), ', '
                        order by o collate "C") from unnest(reloptions) o) || ')' as opts
  from rel where reloptions is not null),
comments as (
  -- Of a view and its columns.
  select rel.oid, array_agg(
      case d.objsubid
        when 0 then format('COMMENT ON %s %s IS %L',
               case relkind when 'm' then 'MATERIALIZED VIEW' else 'VIEW' end, rel.name, d.description)
        else format('COMMENT ON COLUMN %s.%I IS %L', rel.name, a.attname, d.description) end
      order by d.objsubid) as statements
  from rel
  join pg_catalog.pg_description d on d.classoid = 'pg_catalog.pg_class'::regclass and d.objoid = rel.oid
  left join pg_catalog.pg_attribute a on a.attrelid = rel.oid and a.attnum = d.objsubid and d.objsubid > 0
  where rel.relkind in ('v', 'm') group by rel.oid),
found (section, level, kind, name, relation, statements) as (
  select 0, (select max(l.level) from level l where l.oid = rel.oid), 'view', rel.name, rel.name,
    array[format('CREATE VIEW %s%s AS %s', rel.name, coalesce(opts.opts, ''),
                 rtrim(pg_catalog.pg_get_viewdef(rel.oid), ';')),
          format('ALTER VIEW %s OWNER TO %I', rel.name, pg_catalog.pg_get_userbyid(rel.relowner))]
    || array(select format('ALTER VIEW %s ALTER COLUMN %I SET DEFAULT %s', rel.name, a.attname,
                           pg_catalog.pg_get_expr(d.adbin, d.adrelid))
             from pg_catalog.pg_attrdef d
             join pg_catalog.pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
             where d.adrelid = rel.oid order by a.attnum)
    || coalesce(comments.statements, '{}')
  from rel left join opts using (oid) left join comments using (oid) where relkind = 'v'
  union all
  select 0, (select max(l.level) from level l where l.oid = rel.oid), 'materialized_view', rel.name,
    rel.name,
    array[format('CREATE MATERIALIZED VIEW %s USING %I%s%s AS %s WITH %sDATA', rel.name, am.amname,
                 coalesce(opts.opts, ''), coalesce(' TABLESPACE ' || quote_ident(ts.spcname), ''),
                 rtrim(pg_catalog.pg_get_viewdef(rel.oid), ';'),
                 case when relispopulated then '' else 'NO ' end),
          format('ALTER MATERIALIZED VIEW %s OWNER TO %I', rel.name,
                 pg_catalog.pg_get_userbyid(rel.relowner))]
    || array(select pg_catalog.pg_get_indexdef(x.indexrelid) from pg_catalog.pg_index x
             join pg_catalog.pg_class i on i.oid = x.indexrelid
             where x.indrelid = rel.oid and x.indisvalid order by i.relname collate "C")
    || array(select format('ALTER INDEX %I.%I SET TABLESPACE %I', n.nspname, i.relname, it.spcname)
             from pg_catalog.pg_index x join pg_catalog.pg_class i on i.oid = x.indexrelid
             join pg_catalog.pg_namespace n on n.oid = i.relnamespace
             join pg_catalog.pg_tablespace it on it.oid = i.reltablespace
             where x.indrelid = rel.oid and x.indisvalid order by i.relname collate "C")
    || array(select format('ALTER MATERIALIZED VIEW %s CLUSTER ON %I', rel.name, i.relname)
             from pg_catalog.pg_index x join pg_catalog.pg_class i on i.oid = x.indexrelid
             where x.indrelid = rel.oid and x.indisclustered)
    || coalesce(comments.statements, '{}')
  from rel join pg_catalog.pg_am am on am.oid = rel.relam
  left join pg_catalog.pg_tablespace ts on ts.oid = rel.reltablespace
  left join opts on opts.oid = rel.oid left join comments on comments.oid = rel.oid
  where relkind = 'm'
  union all
  select 1, 0, 'rule', format('%s.%I', rel.name, w.rulename), rel.name,
    array_remove(array[
      rtrim(pg_catalog.pg_get_ruledef(w.oid), ';'),
      case w.ev_enabled when 'O' then null
        else format('ALTER TABLE %s %s RULE %I', rel.name,
             case w.ev_enabled when 'D' then 'DISABLE' when 'R' then 'ENABLE REPLICA'
                               else 'ENABLE ALWAYS' end, w.rulename) end,
      'COMMENT ON RULE ' || quote_ident(w.rulename) || ' ON ' || rel.name || ' IS '
        || quote_literal(pg_catalog.obj_description(w.oid, 'pg_rewrite'))], null)
  from rel join pg_catalog.pg_rewrite w on w.ev_class = rel.oid and w.rulename <> '_RETURN'
  union all
  select 2, 0, 'trigger', format('%s.%I', rel.name, t.tgname), rel.name,
    array_remove(array[
      pg_catalog.pg_get_triggerdef(t.oid),
      case t.tgenabled when 'O' then null
        else format('ALTER TABLE %s %s TRIGGER %I', rel.name,
             case t.tgenabled when 'D' then 'DISABLE' when 'R' then 'ENABLE REPLICA'
                              else 'ENABLE ALWAYS' end, t.tgname) end,
      'COMMENT ON TRIGGER ' || quote_ident(t.tgname) || ' ON ' || rel.name || ' IS '
        || quote_literal(pg_catalog.obj_description(t.oid, 'pg_trigger'))], null)
  -- Those of partitions come with the one of the whole table.
  from rel join pg_catalog.pg_trigger t on t.tgrelid = rel.oid and not t.tgisinternal
       and t.tgparentid = 0
  union all
  select 3, 0, 'policy', format('%s.%I', rel.name, p.polname), rel.name,
    array_remove(array[
      format('CREATE POLICY %I ON %s AS %s FOR %s TO %s%s%s', p.polname, rel.name,
        case when p.polpermissive then 'PERMISSIVE' else 'RESTRICTIVE' end,
        case p.polcmd when 'r' then 'SELECT' when 'a' then 'INSERT' when 'w' then 'UPDATE'
                      when 'd' then 'DELETE' else 'ALL' end,
        (select string_agg(case u.role when 0 then 'PUBLIC'
                             else quote_ident(pg_catalog.pg_get_userbyid(u.role)) end, ', '
                           order by pg_catalog.pg_get_userbyid(u.role) collate "C")
         from unnest(p.polroles) u (role)),
        coalesce(' USING (' || pg_catalog.pg_get_expr(p.polqual, p.polrelid) || ')', ''),
        coalesce(' WITH CHECK (' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) || ')', '')),
      'COMMENT ON POLICY ' || quote_ident(p.polname) || ' ON ' || rel.name || ' IS '
        || quote_literal(pg_catalog.obj_description(p.oid, 'pg_policy'))], null)
  from rel join pg_catalog.pg_policy p on p.polrelid = rel.oid
  union all
  select 4, 0, 'row_security', rel.name, rel.name,
    array[format('ALTER TABLE %s %s ROW LEVEL SECURITY', rel.name,
                 case when relrowsecurity then 'ENABLE' else 'DISABLE' end),
          format('ALTER TABLE %s %s ROW LEVEL SECURITY', rel.name,
                 case when relforcerowsecurity then 'FORCE' else 'NO FORCE' end)]
  from rel where relkind in ('r', 'p'))
select kind, name, relation, statements from found
order by section, level, relation collate "C", name collate "C"
