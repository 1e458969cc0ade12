-- Statements that write where no text shows it: the lexer may let them pass, the server refuses them,
-- and under `queue` they are held.
select app.fw(701)
select fw(702)
select app . fw (703)
select "app"."fw"(704)
select U&"f\0077"(705)
select * from app.fw(706)
select app.fw_sql(707)
select * from app.fw_rows()
select app.fw_rows()
select app.fw_caught()
select app.fw_next()
select app.fw_definer()
select app.fw_dynamic('insert into app.t values (708)')
select app.fw_dynamic('update app.t set a = 0')
select app.fw_dynamic('drop table app.u')
select app.fw_dynamic('create table app.dynamic (a int)')
select app.fw_dynamic('truncate app.scratch')
select app.fw_dynamic('create temp table dynamic_temp (a int)')
select app.fw_dynamic('alter role app createrole')
select app.fw_dynamic('comment on table app.t is ''dynamic''')
select app.fw_dynamic('grant select on app.t to other')
select app.fw_dynamic('select setval(''app.s'', 999)')
select app.fw_dynamic('call app.pw()')
select app.fw_dynamic('commit')
select app.fw_dynamic('set transaction read write')
select app.fw_dynamic('lock app.t in access exclusive mode; insert into app.t values (709)')
select app.fw_dynamic('set transaction_read_only = off; insert into app.t values (710)')
select app.fw_dynamic('reset all; insert into app.t values (711)')
select app.fw_dynamic('set default_transaction_read_only = off')
select app.fw_dynamic('reset default_transaction_read_only')
select app.fw_dynamic('reset all')
select app.fw_set()
select app.fw_escape()
select app.fw_escape_now()
select app.fw_strict_now()
select app.fw_strict_now(), app.fw(712)
select app.fw_escape(), app.fw(713)
select app.fw_escape(); select app.fw(714)
select app.fw_escape(); select app.fw_escape(); values (app.fw(715))
values (app.fw(716))
table app.t order by app.fw(717)
select 1 where app.fw(718) > 0
select case when true then app.fw(719) end
select count(*) from app.t where id = (select app.fw(720))
select id from app.t order by id limit (select app.fw(721))
select coalesce(null, app.fw(722))
select array[app.fw(723)]
select row(app.fw(724))
with x as materialized (select app.fw(725)) select * from x
with x as (select app.fw(726)) select count(*) from x, x y
select 1 from app.t group by app.fw(727)
select !!! 728
select OPERATOR(app.!!!) 729
explain analyze select app.fw(730)
explain (analyze) select app.fw(731)
copy (select app.fw(732)) to stdout
declare writes cursor with hold for select app.fw(733)
begin; select app.fw(734); commit
begin; select 1; select app.fw(735); commit
begin; declare c cursor for select app.fw(736); fetch all c; commit
select 1; select app.fw(737)
select app.fw(738); select 1
select query_to_xml('insert into app.t values (739) returning id', true, true, '')
select query_to_xml('select app.fw(740)', true, true, '')
select query_to_xml('select nextval(''app.s'')', true, true, '')
select * from ts_stat('select app.fw(741)')
select ts_rewrite('a'::tsquery, 'select app.fw(742)::text::tsquery, ''b''::tsquery')
select app.fw(n) from generate_series(743, 745) n
select (select app.fw(746)) from app.t
select lateral_fw from app.t t, lateral app.fw(t.id + 747) lateral_fw
select not app.fw(749) > 0
select -app.fw(750)
select sum(app.fw(id + 60)) over () from app.t
select app.fw_dynamic('do $x$ begin insert into app.t values (752); end $x$')
select app.fw_dynamic('with x as (insert into app.t values (753) returning *) select * from x')
select app.fw_dynamic('refresh materialized view app.m')
select app.fw_dynamic('vacuum app.t')
select app.fw_dynamic('execute old_insert')
select app.fw_dynamic('prepare in_function as delete from app.u')
execute in_function
select app.fw_dynamic('set local role other')
select pg_column_size(app.fw(754))
select string_agg(app.fw(id + 7000)::text, ',') from app.t
select * from app.t order by id offset app.fw(755)
select id from app.t where app.fw(756) is not null fetch first 1 row only
select cursor_to_xml('old_cursor', 1, true, true, ''), app.fw(757)
select database_to_xml(true, true, ''), app.fw(758)
select schema_to_xml('app', true, true, '') is not null
select make_interval(secs => app.fw(759))
select 1 = any(array[app.fw(760)])
select 1 where app.fw(761) in (select app.fw(762))
select jsonb_build_object('a', app.fw(763))
begin; select app.fw_escape(); commit and chain; select app.fw(1134); commit
table app.v_escapes
table app.v_writes
table app.v_escapes; table app.v_writes
begin; table app.v_escapes; commit
begin; table app.v_writes; commit
declare c cursor with hold for table app.v_writes
copy app.t to stdout; select app.fw(765)
copy (table app.v_writes) to stdout
explain (analyze, costs off, timing off, summary off) table app.v_writes
