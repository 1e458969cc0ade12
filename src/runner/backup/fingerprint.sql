-- Everything that a schema is made of, a line each: what a dump has to bring back. Names and
-- definitions only, no oids. In one REPEATABLE READ transaction with an empty search_path.
with ext as (select classid, objid from pg_depend where deptype='e'),
ns as (select oid, nspname from pg_namespace n where nspname !~ '^pg_' and nspname<>'information_schema'),
rel as (select c.*, n.nspname from pg_class c join ns n on n.oid=c.relnamespace
         where c.relkind in ('r','p','v','m','S','f','c') and c.relpersistence<>'t'
           and not exists(select 1 from ext where classid='pg_class'::regclass and objid=c.oid)),
typ as (select t.*, n.nspname from pg_type t join ns n on n.oid=t.typnamespace where not exists(select 1 from ext where classid='pg_type'::regclass and objid=t.oid)),
fn as (select p.*, n.nspname from pg_proc p join ns n on n.oid=p.pronamespace where not exists(select 1 from ext where classid='pg_proc'::regclass and objid=p.oid)),
acl(kind,ident,raw,owner,objtype) as (
  select 'acl.rel', format('%I.%I',nspname,relname), relacl, relowner, (case relkind when 'S' then 's' else 'r' end)::"char" from rel where relkind<>'c'
  union all select 'acl.schema', quote_ident(n.nspname), n2.nspacl, n2.nspowner, 'n'::"char" from ns n join pg_namespace n2 on n2.oid=n.oid
  union all select 'acl.func', format('%I.%I(%s)',nspname,proname,pg_get_function_identity_arguments(oid)), proacl, proowner, 'f'::"char" from fn
  union all select 'acl.type', format('%I.%I',nspname,typname), typacl, typowner, 'T'::"char" from typ where typtype in ('e','d','r')),
lines(kind,ident,def) as (
  select 'meta','server_major', (current_setting('server_version_num')::int/10000)::text
  union all select 'meta','encoding', (select pg_encoding_to_char(encoding)||'/'||datcollate||'/'||datctype from pg_database where datname=current_database())
  union all select 'schema', quote_ident(nspname), '' from ns
  union all select 'extension', quote_ident(extname), extversion from pg_extension where extname<>'plpgsql'
  union all select 'enum', format('%I.%I',t.nspname,t.typname), (select string_agg(quote_literal(enumlabel),',' order by enumsortorder) from pg_enum e where e.enumtypid=t.oid) from typ t where typtype='e'
  union all select 'domain', format('%I.%I',t.nspname,t.typname), format('%s %s default %s', format_type(typbasetype,typtypmod), case when typnotnull then 'not null' else '' end, coalesce(typdefault,'')) from typ t where typtype='d'
  union all select 'range', format('%I.%I',t.nspname,t.typname), format_type(r.rngsubtype,null) from typ t join pg_range r on r.rngtypid=t.oid
  union all select 'rel', format('%I.%I',nspname,relname),
     format('%s persist=%s rls=%s force=%s ident=%s am=%s opts=%s part=%s bound=%s inh=%s', relkind, relpersistence, relrowsecurity, relforcerowsecurity, relreplident,
       (select amname from pg_am where oid=relam), (select string_agg(o,',' order by o collate "C") from unnest(reloptions) o), pg_get_partkeydef(oid), pg_get_expr(relpartbound,oid),
       (select string_agg(inhparent::regclass::text,',' order by inhseqno) from pg_inherits where inhrelid=rel.oid)) from rel
  union all select 'column', format('%I.%I.%I',r.nspname,r.relname,a.attname),
     format('#%s %s%s%s default=%s identity=%s generated=%s', row_number() over (partition by a.attrelid order by a.attnum), format_type(a.atttypid,a.atttypmod),
       case when a.attcollation<>t.typcollation then ' collate '||(select quote_ident(collname) from pg_collation where oid=a.attcollation) else '' end,
       case when a.attnotnull then ' not null' else '' end, pg_get_expr(d.adbin,d.adrelid), a.attidentity, a.attgenerated)
     from rel r join pg_attribute a on a.attrelid=r.oid and a.attnum>0 and not a.attisdropped join pg_type t on t.oid=a.atttypid left join pg_attrdef d on d.adrelid=a.attrelid and d.adnum=a.attnum where r.relkind<>'S'
  union all select 'constraint', format('%s.%I', coalesce(con.conrelid::regclass::text, format('%I.%I',tn.nspname,ty.typname)), con.conname),
     format('%s %s valid=%s deferrable=%s deferred=%s noinherit=%s', con.contype, pg_get_constraintdef(con.oid), con.convalidated, con.condeferrable, con.condeferred, con.connoinherit)
     from pg_constraint con join ns on ns.oid=con.connamespace left join rel r on r.oid=con.conrelid left join typ ty on ty.oid=con.contypid left join pg_namespace tn on tn.oid=ty.typnamespace
     where (r.oid is not null or ty.oid is not null) and con.contype<>'t' and not (con.contype='n' and con.convalidated)
  union all select 'index', x.indexrelid::regclass::text, format('%s valid=%s clustered=%s replident=%s', pg_get_indexdef(x.indexrelid), x.indisvalid and x.indisready, x.indisclustered, x.indisreplident) from pg_index x join rel r on r.oid=x.indrelid
  union all select 'view', format('%I.%I',nspname,relname), pg_get_viewdef(oid) from rel where relkind in ('v','m')
  union all select 'sequence', format('%I.%I',r.nspname,r.relname), format('%s start=%s inc=%s min=%s max=%s cache=%s cycle=%s owned=%s', format_type(s.seqtypid,null), seqstart,seqincrement,seqmin,seqmax,seqcache,seqcycle,
       (select d.refobjid::regclass||'.'||quote_ident(a.attname) from pg_depend d join pg_attribute a on a.attrelid=d.refobjid and a.attnum=d.refobjsubid where d.classid='pg_class'::regclass and d.objid=r.oid and d.deptype in ('a','i') limit 1)) from rel r join pg_sequence s on s.seqrelid=r.oid
  union all select 'function', format('%I.%I(%s)',nspname,proname,pg_get_function_identity_arguments(oid)), case when prokind='a' then 'aggregate '||pg_get_function_result(oid)||(select format(' sfunc=%s stype=%s init=%s final=%s',aggtransfn,format_type(aggtranstype,null),agginitval,aggfinalfn) from pg_aggregate where aggfnoid=fn.oid) else pg_get_functiondef(oid) end from fn
  union all select 'trigger', format('%I.%I.%I',r.nspname,r.relname,tgname), pg_get_triggerdef(t.oid)||' enabled='||tgenabled::text from pg_trigger t join rel r on r.oid=t.tgrelid where not tgisinternal
  union all select 'rule', format('%I.%I.%I',r.nspname,r.relname,rulename), pg_get_ruledef(w.oid)||' enabled='||ev_enabled::text from pg_rewrite w join rel r on r.oid=w.ev_class where rulename<>'_RETURN'
  union all select 'policy', format('%I.%I.%I',r.nspname,r.relname,polname), format('permissive=%s cmd=%s roles=%s using=%s check=%s', polpermissive, polcmd,
       (select string_agg(coalesce(ro.rolname,'PUBLIC'),',' order by coalesce(ro.rolname,'PUBLIC') collate "C") from unnest(polroles) u(o) left join pg_roles ro on ro.oid=u.o), pg_get_expr(polqual,polrelid), pg_get_expr(polwithcheck,polrelid)) from pg_policy p join rel r on r.oid=p.polrelid
  union all select 'statistics', format('%I.%I',n.nspname,stxname), pg_get_statisticsobjdef(s.oid) from pg_statistic_ext s join ns n on n.oid=s.stxnamespace
  union all select 'evttrigger', quote_ident(evtname), format('%s %s tags=%s enabled=%s', evtevent, evtfoid::regprocedure, array_to_string(evttags,','), evtenabled) from pg_event_trigger
  union all select 'publication', quote_ident(pubname), format('all=%s i%s u%s d%s t%s %s', puballtables,pubinsert,pubupdate,pubdelete,pubtruncate,(select string_agg(prrelid::regclass::text,',' order by prrelid::regclass::text collate "C") from pg_publication_rel where prpubid=p.oid)) from pg_publication p
  union all select 'owner', format('%I.%I',nspname,relname), pg_get_userbyid(relowner) from rel where relkind<>'c'
  union all select kind, ident, (select string_agg(format('%s:%s%s by %s', coalesce(g.rolname,'PUBLIC'), x.privilege_type, case when x.is_grantable then '*' else '' end, pg_get_userbyid(x.grantor)),'; ' order by coalesce(g.rolname,'PUBLIC') collate "C", x.privilege_type collate "C")
        from aclexplode(coalesce(raw, acldefault(objtype, owner))) x left join pg_roles g on g.oid=x.grantee where x.grantee is distinct from owner) from acl
  union all select 'defacl', format('%s %s %s',pg_get_userbyid(defaclrole),coalesce((select nspname from pg_namespace where oid=defaclnamespace),'*'),defaclobjtype), (select string_agg(u::text,',' order by u::text collate "C") from unnest(defaclacl) u) from pg_default_acl
  union all select 'comment', pg_describe_object(classoid,objoid,objsubid), description from pg_description d where classoid in ('pg_class'::regclass,'pg_proc'::regclass,'pg_type'::regclass) and (objoid in (select oid from rel) or objoid in (select oid from fn) or objoid in (select oid from typ))
)
select line
from (select kind||E'\t'||ident||E'\t'||replace(coalesce(def,''),E'\n',E'\\n') as line from lines) all_lines
order by line collate "C"
