-- Reads: the lexer lets them pass, and Postgres answers them as in any read-only transaction.
-- A line is a statement; ¶ stands for a line break. A line that begins with ~ is a read whose answer
-- differs from one time to the next.
select 1
SELECT 1;
select 1; select 2
;
 
-- only a comment
/* only */ /* comments /* nested */ */
select 'it''s; insert into app.t values (1)'
select E'it\'s; delete from app.t'
select $$; drop table app.t; $$
select $tag$ $$ insert into app.t values (1) $$ $tag$
select U&'d\0061t\+000061'
select U&'d!0061ta' uescape '!'
select B'101', X'1F', N'nation'
select /* insert into app.t values (1) */ 1
select 1 -- ; delete from app.t
select 1 -- ;¶, 2
select /*/* */*/ 1
select "Select", "from" from app."Odd ""Name"
select "insert" from (select 1 as "insert") "update"
select a as "delete" from app.t where id = 1
select count(*) from app.t
select * from app.t order by id
select * from only app.t order by id limit 3 offset 2
select id from app.t order by id fetch first 2 rows with ties
table app.t
TABLE ONLY app.t
table app.t order by id limit 1
values (1, 'a'), (2, 'b')
values (1), (2) order by 1 desc
(select 1)
((select 1) union all (select 2))
(values (1)) union (select 2) order by 1
( ( table app.t ) ) order by 1 limit 1
select 1 union select 2 intersect select 2 except select 3
with x as (select 1 as a) select * from x
with recursive r(n) as (select 1 union all select n + 1 from r where n < 5) select sum(n) from r
with x as materialized (select id from app.t), y as not materialized (select id from x) select count(*) from y
with a as (with b as (select 1 as n) select n from b) select n from a
with x as (select 1) values (2)
with x as (select 1 as a) table x
with "insert" as (select 1 as a) select a from "insert"
with recursive s as (select 1 as id union all select id + 1 from s where id < 3) search depth first by id set o select id from s
select t.id, u.note from app.t t join app.u u on u.t_id = t.id order by t.id, u.id
select t.id, l.n from app.t t, lateral (select t.a + 1 as n) l order by 1 limit 3
select a % 2 as odd, count(*), sum(a) from app.t group by rollup (a % 2) order by 1
select id, row_number() over (partition by a % 2 order by id) from app.t order by id
select id, sum(a) over w from app.t window w as (order by id rows between 1 preceding and current row) order by id
select count(*) filter (where a > 5) from app.t
select exists (select from app.t where id = 1)
select array(select id from app.t order by id limit 3)
select case when a > 5 then 'more' else 'less' end from app.t order by id
select distinct on (a % 3) a % 3, id from app.t order by a % 3, id
select * from app.part order by id
select * from app.v order by id limit 2
select * from app.v_with_rule order by id
select * from app.m
select * from generate_series(1, 3) with ordinality
select * from rows from (generate_series(1, 2), generate_series(1, 3)) as r(a, b)
select j -> 'a' ->> 0, j @> '{"a": [1]}', j #>> '{a,2,b}', j ? 'a' from app.docs
select j['a'][0] from app.docs
select ts @@ to_tsquery('english', 'fox') from app.docs
select xmlelement(name insert, 'x')
select row(1, 'a')::app.pair, (row(1, 'a')::app.pair).b
select 'glad'::app.mood > 'sad', cast('3' as app.positive)
select '-1'::app.positive
select app.plain(1), plain(x => 2)
select app.total(a) from app.t
select 1 OPERATOR(pg_catalog.+) 2
select a from app.t tablesample system (100) repeatable (1) order by id limit 1
select 'a' collate app.plain_c < 'b'
select date '2026-01-01' + interval '1 day', timestamp '2026-01-01' at time zone 'UTC'
select extract(year from date '2026-01-01'), position('b' in 'abc'), substring('abc' from 2 for 1), trim(both 'x' from 'xax'), overlay('abc' placing 'z' from 2)
select coalesce(null, 1), nullif(1, 1), greatest(1, 2), least(1, 2)
select '{1,2,3}'::int[], (array[1, 2, 3])[2:3], 1 = any(array[1, 2])
select 1::numeric(10, 2), 1.5e3, .5, 1e-2
select 3 /*x*/ + /*y*/ 4
select 1 as update
select set.a from (select 1 as a) set
select lock, nothing, share, update from (values (1, 2, 3, 4)) as f(lock, nothing, share, update)
select 'for update'
select "for", "update" from (values (1, 2)) as f("for", "update")
select substring('for update' for 3)
select nope from app.t
select 1/0
select from app.t where id = 1
select * from nowhere
select (select max(id) from app.t) + 1
~select now() is not null, clock_timestamp() > now() - interval '1 day'
~select random() < 2
~select pg_backend_pid() > 0
select current_user, session_user, current_role, current_schema, current_database()
select current_setting('server_version_num')::int >= 140000, current_setting('nope.nothing', true)
select current_setting('transaction_read_only')
show transaction_read_only
show search_path
show transaction isolation level
show session authorization
show time zone
~show all
select pg_is_in_recovery()
~select pg_current_xact_id_if_assigned() is null
~select pg_current_snapshot() is not null
select last_value is not null from app.s
select last_value, is_called from app.s
select pg_sequence_last_value('app.s')
select pg_get_serial_sequence('app.u', 'id')
select currval('app.s')
select lastval()
select pg_relation_size('app.t') > 0, pg_total_relation_size('app.t') > 0
select pg_get_viewdef('app.v'), pg_get_indexdef('app.t_a'::regclass)
select obj_description('app.t'::regclass), col_description('app.t'::regclass, 1)
select has_table_privilege('reader', 'app.t', 'select')
select relname, relkind from pg_class where relnamespace = 'app'::regnamespace and relkind = 'r' order by relname
select table_name from information_schema.tables where table_schema = 'app' order by 1
select typname from pg_type where typname = 'mood'
~select count(*) > 0 from pg_stat_activity
~select count(*) >= 0 from pg_locks
~select count(*) > 0 from pg_stat_user_tables
select format('%I %L %s', 'a b', 'it''s', 1), quote_ident('Select')
select regexp_replace('abc', 'b', 'x', 'g'), string_to_array('a,b', ',')
select md5('x'), encode(sha256('x'), 'hex')
select json_agg(id order by id) from app.t where id < 4
select * from json_to_record('{"a": 1}') as x(a int)
select * from json_populate_record(null::app.pair, '{"a": 1, "b": "x"}')
select pg_typeof(1), to_regclass('app.t'), 'app.t'::regclass::text
select lo_get(880001)
select length(big) from app.toasty
explain (costs off) select * from app.t where id = 1
explain (costs off) insert into app.t values (50, 1, 'x')
explain (costs off) update app.t set a = 1
explain (costs off, verbose off) delete from app.t
explain (costs off) with x as (delete from app.t returning *) select * from x
~explain analyze select 1
~explain analyze verbose select count(*) from app.t
~explain (analyze) select 1
~explain (analyze, buffers, format json) select count(*) from app.t
explain (analyze off, costs off) delete from app.t
explain (analyze false, costs off) delete from app.t
explain (analyze on, analyze off, costs off) select 1
explain (costs off) select id from app.t for update
explain (costs off) declare c cursor for select 1
explain (costs off, format yaml) select 1
copy app.t to stdout
copy app.t (id, a) to stdout with (format csv, header)
copy (select id from app.t order by id) to stdout
copy (values (1), (2)) to stdout csv
copy (with x as (select 1) select * from x) to stdout
copy app.t to stdout (format binary)
begin; select 1; commit
begin; select count(*) from app.t; rollback
begin read only; select 1; end
begin transaction isolation level repeatable read read only; select count(*) from app.u; commit
start transaction read only, isolation level serializable, deferrable; select 1; commit
begin; set local statement_timeout = '10s'; select count(*) from app.t; commit
begin; savepoint a; select 1; rollback to a; select 2; release a; commit
begin; declare c cursor for select id from app.t order by id; fetch 2 from c; fetch backward 1 in c; move forward 1 from c; close c; commit
begin; declare c scroll cursor for select id from app.t order by id; fetch last from c; fetch absolute 2 from c; fetch relative -1 from c; fetch prior c; commit
begin; declare c no scroll binary cursor without hold for table app.t; fetch all c; rollback
select pg_try_advisory_lock(1), pg_advisory_unlock(1)
select pg_advisory_unlock_all()
begin; select pg_advisory_xact_lock(2); commit
listen channel
unlisten channel
listen "Quoted Channel"; unlisten *
discard plans
