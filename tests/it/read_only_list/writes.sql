-- Statements that change something, escape the mode, or do what the server lets pass in a read-only
-- transaction. Not one may be carried out. Many would succeed in open mode.
insert into app.t values (1001, 1, 'x')
INSERT INTO app.t VALUES (1002, 1, 'x');
 /* c */ insert /* c */ into app.t values (1003)
-- c¶insert into app.t values (1004)
/* /* */ */insert into app.t values (1005)
;insert into app.t values (1006)
;;;; insert into app.t values (1007)
select 1;insert into app.t values (1008)
insert into app.t values (1009); select 1
select 1; select 2; select 3; delete from app.u
select ';'; insert into app.t values (1010)
select $$;$$; insert into app.t values (1011)
select $a$ $b$ $a$; insert into app.t values (1012) --$b$
select E'\''; insert into app.t values (1013) --'
select 'a\'; insert into app.t values (1014) --'
select e'\\'; insert into app.t values (1015)
select U&'\0027'; insert into app.t values (1016)
select U&"\0069d" from app.t; insert into app.t values (1017)
select "a""b" from (select 1 as "a""b") x; insert into app.t values (1018)
select ';'¶';' ; insert into app.t values (1019)
select 1 -- c¶; insert into app.t values (1020)
select 1 /* ; */; insert into app.t values (1021)
select 1 as a$b$; insert into app.t values (1022) --$b$
select 1 as _$x$; insert into app.t values (1023) --$x$
select 1 as é$x$; insert into app.t values (1024) --$x$
select $1x$;$1x$; insert into app.t values (1025)
select $é$ ; $é$; insert into app.t values (1026)
select 'a'¶'b'; insert into app.t values (1027)
select x'1f'; insert into app.t values (1029)
select n'\'; insert into app.t values (1030) --'
select 1--1¶; insert into app.t values (1031)
select 1 --¶; insert into app.t values (1032)
select 4 /**/ ; insert into app.t values (1033)
select @ -1; insert into app.t values (1034)
select 1 +-- c¶ 2; insert into app.t values (1035)
select 2 */* c */ 3; insert into app.t values (1036)
insert into app.t select 1037, 1, 'x'
insert into app.t (id) values (1038) returning *
insert into app.t default values
insert into app.t values (1, 1, 'x') on conflict do nothing
insert into app.t values (1, 1, 'x') on conflict (id) do update set b = 'upserted'
insert into app.u (note) values ('n')
insert into app.identity (v) values ('three')
insert into app.identity (id, v) overriding system value values (9, 'x')
insert into app.part values (5, 'x'), (105, 'y')
insert into app.v values (1040, 1)
insert into app.v_with_rule values (1, 'ruled')
insert into app.watched values (3, 'c')
insert into app.scratch values (2)
insert into app.docs (id, j) values (3, '{}')
insert into app."Odd ""Name" values (2, 'x')
insert into U&"app"."t" values (1041)
insert into pg_temp.mine values (5)
insert into mine values (6)
update app.t set a = a
update app.t set a = 100 where id = 1
UPDATE ONLY app.t SET b = 'u'
update app.t set a = u.id from app.u u where u.t_id = app.t.id
update app.docs set j['a'] = '1'
update app.part set id = id + 100 where id < 100
update app.v set a = 0
update app.watched set v = 'fired'
update app."Odd ""Name" set "Select" = 2
update mine set id = 9
update pg_class set relname = relname where relname = 't'
update app.t set a = 1 where current of old_cursor
delete from app.t
delete from app.t where false
delete from app.t using app.u where app.u.t_id = app.t.id returning app.t.*
delete from app.part
delete from mine
merge into app.t using app.u on app.t.id = app.u.t_id when matched then update set b = 'merged'
merge into app.t t using (values (2000)) s(id) on t.id = s.id when not matched then insert values (s.id, 0, 'merged')
merge into app.t using app.u on app.t.id = app.u.t_id when matched then do nothing
with x as (insert into app.t values (1050) returning *) select * from x
with x as (delete from app.u returning *) select count(*) from x
with x as (update app.t set a = 0 returning id) select id from x
with x as (select 1) insert into app.t select 1051
with x as (select 1) update app.t set a = 0
with x as (select 1) delete from app.t
with x as (select 1051) merge into app.t using x on false when not matched then insert values (1051)
with a as (with b as (delete from app.u returning *) select * from b) select * from a
with recursive x as (insert into app.t values (1052) returning *) table x
with x as not materialized (insert into app.t values (1053) returning *) select 1
with "x" (a, b) as (delete from app.u returning id, note) select * from "x"
with x as (values (1)), y as (delete from app.u) select 1
with select_ as (delete from app.u returning *) values (1)
select * from app.t for update
select * from app.t for no key update
select * from app.t for share
select * from app.t for key share
select * from app.t for update of t nowait
select * from app.t for update skip locked
select * from app.t for/**/update
select * from (select * from app.t for update) x
select 1 where exists (select from app.t for share)
(select * from app.t for update)
with x as (select * from app.t for update) select * from x
table app.t for update
values (1) for update
select id from app.t order by id limit 1 for update
select * from app.t for share; commit
declare l cursor with hold for select * from app.t for update
begin; declare l cursor for select * from app.t for update; fetch l; commit
select * into app.made from app.t
select a into table app.made2 from app.t
select 1 as a into temp made3
select 1 into unlogged app.made4
select into app.made5 from app.t
with x as (select 1 as a) select a into app.made6 from x
select 1 as a into strict
create table app.made7 as select 1
create table app.made8 (a int)
create temp table made9 (a int)
create temporary table made10 as select 1
create unlogged table app.made11 (a int)
create table if not exists app.t (a int)
create table app.part_3 partition of app.part for values from (200) to (300)
create table app.like_t (like app.t including all)
create table app.typed of app.pair
create view app.made_v as select 1
create or replace view app.v as select id, a from app.t
create temp view made_tv as select 1
create recursive view app.made_r (n) as select 1
create materialized view app.made_m as select 1
create index on app.t (b)
create index concurrently made_i on app.t (b)
create unique index made_i2 on app.t (id)
create sequence app.made_s
create temp sequence made_ts
create schema made
create schema if not exists app
create schema authorization app create table made (a int)
create function app.made_f() returns int language sql return 1
create function app.made_fb() returns int language sql begin atomic select 1; end
create or replace function app.plain(x int) returns int language sql immutable as 'select x + 2'
create procedure app.made_p() language sql as ''
create trigger made_t after insert on app.t for each row execute function app.trigger_writes()
create rule made_rule as on insert to app.t do also nothing
create type app.made_type as (a int)
create type app.made_enum as enum ('a')
create type app.made_range as range (subtype = int)
create domain app.made_domain as int
create cast (app.mood as int) with inout
create operator app.=== (function = int4eq, leftarg = int, rightarg = int)
create operator class app.made_ops for type int using btree as operator 1 <
create aggregate app.made_agg (int) (sfunc = int4pl, stype = int)
create collation app.made_c (locale = 'C')
create conversion app.made_conversion for 'LATIN1' to 'UTF8' from iso8859_1_to_utf8
create text search configuration app.made_ts (copy = pg_catalog.simple)
create text search dictionary app.made_d (template = simple)
create statistics app.made_stats on a, b from app.t
create policy made_policy on app.t using (true)
create role made_role
create user made_user
create group made_group
create database made_db
create extension pg_trgm
create extension if not exists plpgsql
create foreign data wrapper made_fdw
create server made_server foreign data wrapper nothing
create user mapping for app server nothing
create foreign table app.made_ft (a int) server nothing
create publication made_pub
create subscription made_sub connection 'host=127.0.0.1' publication p with (connect = false)
create event trigger made_et on ddl_command_end execute function app.trigger_writes()
create access method made_am type table handler heap_tableam_handler
create language made_l
create transform for int language plpgsql (from sql with function nothing(internal))
create tablespace made_space location '/tmp'
alter table app.t add column c int
alter table app.t alter column a set default 5
alter table app.t alter column a set statistics 5
alter table app.t set (fillfactor = 70)
alter table app.t rename to t2
alter table app.t rename column a to aa
alter table app.t set schema spare
alter table app.t owner to other
alter table app.t enable row level security
alter table app.t add constraint made_check check (a > 0) not valid
alter table app.t cluster on t_a
alter table app.t set logged
alter table app.watched disable trigger all
alter table app.part detach partition app.part_1
alter table app.u validate constraint u_t_id_fkey
alter index app.t_a rename to t_b
alter sequence app.s restart
alter sequence app.s increment by 5
alter sequence mine_s restart
alter view app.v alter column a set default 3
alter materialized view app.m rename to m2
alter function app.plain(int) cost 5
alter procedure app.pw() security definer
alter type app.mood add value 'calm'
alter type app.mood rename value 'sad' to 'sadder'
alter domain app.positive drop not null
alter schema spare rename to spare2
alter role app set work_mem = '5MB'
alter role app password 'x'
alter role app reset all
alter role all set work_mem = '5MB'
alter role reader rename to reader2
alter user app in database list set work_mem = '5MB'
alter group other add user app
alter database list set work_mem = '5MB'
alter database list set default_transaction_read_only = off
alter database list rename to list2
alter default privileges in schema app grant select on tables to reader
alter system set work_mem = '5MB'
alter system reset all
alter large object 880001 owner to other
alter policy everybody on app.guarded using (false)
alter statistics app.t_stats set statistics 5
alter trigger watched on app.watched rename to watched2
alter rule v_insert on app.v_with_rule rename to v_insert2
alter extension plpgsql set schema app
alter collation app.plain_c rename to plain_d
alter operator app.!!! (none, int) owner to other
alter text search configuration app.words rename to words2
alter aggregate app.total (int) rename to total2
drop table app.scratch
drop table if exists app.no_such_table
drop table mine
drop view app.v
drop materialized view app.m
drop index app.t_a
drop index concurrently app.t_a
drop sequence app.spare_s
drop schema spare
drop function app.plain(int)
drop procedure app.pw
drop routine app.p_reads
drop trigger watched on app.watched
drop rule v_insert on app.v_with_rule
drop type app.pair cascade
drop domain app.positive
drop operator app.!!! (none, int)
drop aggregate app.total (int)
drop collation app.plain_c
drop statistics app.t_stats
drop policy everybody on app.guarded
drop text search configuration app.words
drop role reader
drop owned by app
drop database if exists no_such_database
drop extension if exists no_such_extension
reassign owned by app to other
truncate app.scratch
truncate table only app.t, app.u restart identity cascade
truncate mine
comment on table app.t is 'changed'
comment on column app.t.a is 'changed'
comment on database list is 'changed'
comment on function app.plain(int) is null
security label on table app.t is 'x'
grant select on app.t to other
grant all on all tables in schema app to reader
grant other to reader
grant update (a) on app.t to reader
grant usage on schema app to public
grant select on large object 880001 to reader
revoke select on app.t from reader
revoke other from app
import foreign schema x from server nothing into app
refresh materialized view app.m
refresh materialized view concurrently app.m
refresh materialized view app.m with no data
vacuum
vacuum app.t
vacuum full app.t
vacuum (analyze, verbose) app.t
vacuum freeze app.t
analyze
analyze app.t
analyze verbose app.t (a)
analyse app.t
reindex table app.t
reindex index app.t_a
reindex (verbose) schema app
reindex database list
reindex table concurrently app.t
cluster app.t using t_a
cluster app.clustered
cluster
lock app.t
lock table app.t in access share mode
lock table only app.t, app.u in exclusive mode nowait
begin; lock app.t in share mode; commit
begin; lock table app.t in access exclusive mode; insert into app.t values (1060); commit
copy app.t from stdin
copy app.t (id, a) from stdin with (format csv)
copy app.t from '/etc/hostname'
copy app.t from program 'echo 1070'
copy app.t to '/tmp/no_such_directory/x'
copy app.t to program 'cat > /dev/null'
copy (insert into app.t values (1061) returning id) to stdout
copy (delete from app.u returning *) to stdout
copy (with x as (update app.t set a = 0 returning *) select * from x) to stdout
copy (select nextval('app.s')) to stdout
copy (select id from app.t for update) to stdout
copy binary app.t from stdin
copy mine from stdin
do $$ begin insert into app.t values (1062); end $$
do 'begin delete from app.u; end'
do language plpgsql $$ begin null; end $$
do $$ begin commit; set transaction read write; insert into app.t values (1063); end $$
do $$ begin commit; set transaction read write; insert into app.t values (1064); commit; end $$
do $$ begin perform set_config('default_transaction_read_only', 'off', false); commit; insert into app.t values (1065); end $$
do $$ begin rollback; perform set_config('transaction_read_only', 'off', true); insert into app.t values (1066); end $$
do $$ begin execute 'vacuum app.t'; end $$
call app.pw()
call app.p_escapes()
call app.p_reads()
call app.p_sets()
CALL app . p_escapes ( )
/* c */ call app.p_escapes()
select nextval('app.s')
select pg_catalog.nextval('app.s'::regclass)
select "nextval"('app.s')
select "pg_catalog"."nextval"('app.s')
select NextVal('app.s')
select nextval/**/('app.s')
select nextval --¶ ('app.s')
select U&"nextva\006c"('app.s')
select U&"!006eextval" uescape '!' ('app.s')
select pg_catalog . nextval ( 'app.s' )
select setval('app.s', 100)
select setval('app.s', 100, true), 1
select setval('app.u_id_seq', 1000)
select nextval('mine_s')
select 1 from app.t where nextval('app.s') > 0
values (nextval('app.s'))
select * from nextval('app.s')
select coalesce((select nextval('app.s')), 0)
explain analyze select nextval('app.s')
select lo_create(990002)
select lo_creat(-1)
select lo_unlink(880001)
select lo_put(880001, 0, 'x')
select lo_from_bytea(990003, 'x')
select pg_catalog.lo_unlink(880001)
select "lo_unlink"(880001)
select loid from (select lo_create(990004) as loid) x
begin; select lowrite(lo_open(880001, 131072), 'x'); commit
begin; select lo_truncate(lo_open(880001, 131072), 1); commit
begin; select lo_truncate64(lo_open(880001, 131072), 1); commit
select lo_import('/etc/hostname')
select lo_export(880001, '/tmp/no_such_directory/x')
explain analyze insert into app.t values (1080)
explain analyze update app.t set a = 0
explain analyze delete from app.u
EXPLAIN ANALYZE VERBOSE DELETE FROM app.u
explain (analyze) delete from app.u
explain (analyze true) delete from app.u
explain (analyze on, costs off) delete from app.u
explain (analyze 1) delete from app.u
explain (costs off, analyze) delete from app.u
explain (analyze off, analyze on) delete from app.u
explain ("analyze") delete from app.u
explain (analyze 'on') delete from app.u
explain (analyze "true") delete from app.u
explain (buffers, analyze tru) delete from app.u
explain/**/analyze/**/delete from app.u
explain analyse delete from app.u
explain (analyse) delete from app.u
explain analyze with x as (delete from app.u returning *) select * from x
explain analyze create table app.made20 as select 1
explain analyze create materialized view app.made21 as select 1
explain analyze declare c cursor for select * from app.t for update
explain analyze execute old_delete
explain (analyze) execute old_insert
explain (analyze, verbose) select 1 into app.made22
explain analyze select * from app.t for update
begin read write
begin; insert into app.t values (1090); commit
begin read write; insert into app.t values (1091); commit
begin transaction isolation level serializable read write; delete from app.u; commit
begin read only, read write; delete from app.u; commit
begin read only read write
BEGIN WORK READ/**/WRITE
start transaction read write
start transaction isolation level repeatable read, read write
begin; set transaction read write; insert into app.t values (1092); commit
begin read only; set transaction read write; insert into app.t values (1093); commit
begin; set transaction_read_only = off; insert into app.t values (1094); commit
begin; set local transaction_read_only to 'off'; insert into app.t values (1095); commit
begin; reset transaction_read_only; insert into app.t values (1096); commit
begin; select 1; insert into app.t values (1097); commit
begin; savepoint a; insert into app.t values (1098); release a; commit
begin; savepoint a; set transaction read write; insert into app.t values (1099); commit
begin; select set_config('transaction_read_only', 'off', true); insert into app.t values (1100); commit
begin; select set_config('transaction_read_only', 'off', true); select app.fw(1101); commit
begin; set transaction read write; select app.fw(1102); commit
begin; show all; set transaction read write; select app.fw(1103); commit
begin; commit and chain; set transaction read write; select app.fw(1104); commit
commit; begin; set transaction read write; select app.fw(1105); commit
set transaction read write; insert into app.t values (1106)
set transaction read write; select app.fw(1107)
set transaction isolation level serializable, read write; select app.fw(1108)
set transaction read write
set session characteristics as transaction read write
set session characteristics as transaction isolation level read committed, read write
set session characteristics as transaction read write; commit; insert into app.t values (1110)
set session characteristics as transaction read write; commit; select app.fw(1111)
set default_transaction_read_only = off
set default_transaction_read_only to default
set session default_transaction_read_only = 'off'
set local default_transaction_read_only = off
SET DEFAULT_TRANSACTION_READ_ONLY = FALSE
set "default_transaction_read_only" = 0
set U&"default_transaction_read\005fonly" = off
set default_transaction_read_only from current
reset default_transaction_read_only
reset "default_transaction_read_only"
reset Default_Transaction_Read_Only
set default_transaction_read_only = off; commit; insert into app.t values (1112)
set default_transaction_read_only = off; commit; select app.fw(1113)
reset all; commit; insert into app.t values (1114)
reset all; commit; select app.fw(1115)
begin; reset all; commit; select app.fw(1116)
reset all; begin; select app.fw(1117); commit
discard all; insert into app.t values (1118)
select set_config('default_transaction_read_only', 'off', false)
select set_config('default_transaction_read_only', 'off', false); commit; select app.fw(1120)
select set_config('default_transaction_' || 'read_only', 'off', false); commit; select app.fw(1121)
select set_config(n, 'off', false) from (values ('default_transaction_read_only')) x(n); commit; select app.fw(1122)
select pg_catalog.set_config('DEFAULT_TRANSACTION_READ_ONLY', 'off', false)
select "set_config"('default_transaction_read_only', 'off', false)
select U&"set_confi\0067"('default_transaction_read_only', 'off', false)
select set_config(E'default_transaction_read_onl\x79', 'off', false)
select set_config(U&'default_transaction_read_onl\0079', 'off', false)
select set_config($$default_transaction_read_only$$, 'off', false)
select set_config(setting_name => 'default_transaction_read_only', new_value => 'off', is_local => false)
select set_config('default_transaction_'¶'read_only', 'off', false)
select * from set_config('default_transaction_read_only', 'off', false)
select set_config('transaction_read_only', 'off', false)
select set_config('transaction_read_only', 'off', false), app.fw(1123)
update pg_settings set setting = 'off' where name = 'default_transaction_read_only'
with x as (update pg_settings set setting = 'off' where name = 'default_transaction_read_only' returning 1) select 1
select app.fw(1130); commit; select app.fw(1131)
select app.fw_escape(); commit; select app.fw(1132)
begin; select app.fw_escape(); commit; select app.fw(1133)
select app.fw_dynamic('reset all'); end; values (app.fw(1135))
prepare smuggled as insert into app.t values (1140); execute smuggled
prepare w_begin as select 1; commit; set transaction read write; select app.fw(1141)
prepare young_write as delete from app.u; explain analyze execute young_write
prepare p_fw as select app.fw_escape(); execute p_fw; commit; select app.fw(1142)
execute old_config; commit; select app.fw(1143)
select 1; vacuum app.t
select pg_switch_wal()
select pg_logical_emit_message(true, 'a', 'b')
select pg_create_restore_point('x')
select pg_replication_origin_create('x')
select pg_create_physical_replication_slot('x')
select pg_create_logical_replication_slot('x', 'test_decoding')
select pg_drop_replication_slot('x')
select pg_stat_reset()
select pg_reload_conf()
select pg_rotate_logfile()
select pg_promote()
select pg_import_system_collations('app')
select brin_summarize_new_values('app.t_a')
select gin_clean_pending_list('app.t_a')
select pg_read_file('x'), nextval('app.s')
select query_to_xml('select 1', true, true, ''), nextval('app.s')
select 1; do $$ begin insert into app.t values (1150); end $$
select 1 \; insert into app.t values (1151)
(with x as (insert into app.t values (1152) returning *) select * from x)
((insert into app.t values (1153)))
select * from (insert into app.t values (1154) returning *) x
select (with x as (insert into app.t values (1155) returning *) select 1)
values ((with x as (delete from app.u returning id) select count(*) from x))
notify news; insert into app.t values (1156)
listen news; delete from app.u
prepare transaction 'written'
begin; prepare transaction 'empty'
begin; insert into app.t values (1157); prepare transaction 'written'
﻿insert into app.t values (1158)
 insert into app.t values (1159)
insert¶into¶app.t¶values¶(1160)
	insert	into	app.t	values	(1161)
fetch all from old_cursor; insert into app.t values (1162)
execute old_insert; insert into app.t values (1163)
deallocate old_read; insert into app.t values (1164)
show all; insert into app.t values (1165)
copy app.t to stdout; insert into app.t values (1166)
explain select 1; insert into app.t values (1167)
table app.t; truncate app.t cascade
values (1); drop table app.u
begin; select 1; commit; begin; insert into app.t values (1168); commit
select 1; commit; insert into app.t values (1169)
rollback; insert into app.t values (1170)
abort; delete from app.u
select 'Ä\'; insert into app.t values (1171) --'
select "a;b" from (select 1 as "a;b") x; insert into app.t values (1172)
/*;*/ insert into app.t values (1173)
/*--*/ insert into app.t values (1174)
--/*¶insert into app.t values (1175) --*/
/*'*/ insert into app.t values (1176) --'
/*$$*/ insert into app.t values (1177) --$$
--'¶insert into app.t values (1178) --'
select 1 $$a$$; insert into app.t values (1179)
select '/*'; insert into app.t values (1180) --*/'
select "/*" from (select 1 as "/*") x; insert into app.t values (1181) --*/
select $$/*$$; insert into app.t values (1182) --*/
select /* /* */ 1; */ 2; insert into app.t values (1183)
select 1 /*/**/ ;*/; insert into app.t values (1184)
select e'a''\''; insert into app.t values (1185) --'
select U&'\\' ; insert into app.t values (1186)
select 1 as "for"; insert into app.t values (1187)
select $a$;$A$;$a$; insert into app.t values (1188)
select $$$$; insert into app.t values (1189)
select $a$$$a$; insert into app.t values (1190)
select 1.e; insert into app.t values (1191)
select 1_000; insert into app.t values (1192)
select 0x1f; insert into app.t values (1193)
set my.x = 'a'; insert into app.t values (1194)
set standard_conforming_strings = off; select 'a\'; insert into app.t values (1195) --'
set standard_conforming_strings = off; select 'a\''; insert into app.t values (1196) --'
set session authorization app; insert into app.t values (1197)
set role other; insert into app.t values (1198)
select U&"!006co_unlink" uescape '!' (880001)
select pg_catalog.U&"lo\005funlink"(880001)
select "lo_create"(990010) from "lo_create"(990011)
select lo_create /* ( */ (990012)
select lo_creat(393216), lo_creat(131072)
select pg_catalog."lo_from_bytea"(990013, 'x')
explain analyze create table app.made30 as select 1; select 1
explain (analyze) create table if not exists app.made31 as select 1
explain verbose analyze create table app.made32 as select 1
explain analyze select 1 as a into app.made33
explain (verbose, analyze) create materialized view app.made34 as select 1
select query_to_xml('select lo_unlink(880001)', true, true, '')
select query_to_xml_and_xmlschema('select lo_creat(-1)', true, true, '')
select query_to_xmlschema('select lo_creat(-1)', true, true, '')
select * from ts_stat('select lo_creat(-1)::text::tsvector')
select ts_rewrite('a'::tsquery, 'select lo_creat(-1)::text::tsquery, ''b''::tsquery')
table app.v_escapes; commit; table app.v_writes
begin; table app.v_escapes; commit; begin; table app.v_writes; commit
select * from app.v_escapes; commit; select !!! 2101
begin; declare c cursor with hold for table app.v_escapes; commit; table app.v_writes
