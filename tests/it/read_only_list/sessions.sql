-- Session state and transaction control: not one of them may let a write through, whatever the lexer
-- thinks of them; where it lets them pass, Postgres's own answer comes back. A line that begins with ^ is
-- for sessions that have nothing to lose, and with ! for one whose error comes later where BEGIN is deferred.
set search_path to app, public
set local search_path to app
set session statement_timeout = '30s'
reset statement_timeout
set statement_timeout to default
set application_name = 'the list'
set client_encoding to 'UTF8'
set names 'utf8'
set time zone 'UTC'
set time zone local
set timezone = 'Europe/Berlin'
set datestyle = 'ISO, DMY'
reset datestyle
reset timezone
set my.setting = 'on'
set "my"."other" = 'default_transaction_read_only'
set work_mem = '4MB'
reset work_mem
discard plans
set role other
reset role
set role none
set session authorization default
reset session authorization
set constraints all deferred
begin; set constraints all immediate; commit
set transaction isolation level serializable
set transaction read only
set session characteristics as transaction isolation level read committed
begin
begin work
begin isolation level serializable
begin read only
begin transaction isolation level repeatable read, read only, not deferrable
start transaction
start transaction read only
begin; begin; commit; commit
commit
end
end work
rollback
abort
abort transaction
commit and no chain
rollback and no chain
commit and chain
rollback and chain
begin; commit and chain; select 1; commit
begin; rollback and chain; select 1; rollback
savepoint outside
release savepoint outside
rollback to savepoint outside
begin; savepoint a; savepoint a; release a; rollback to savepoint a; commit
begin; select 1/0; rollback
begin; select 1/0; commit
begin; select 1/0; savepoint a; rollback
begin; savepoint a; select 1/0; rollback to a; select 2; commit
prepare young_read as select count(*) from app.t
execute young_read
execute young_read;
EXECUTE Young_Read
explain (costs off) execute young_read
deallocate young_read
prepare young_arg (int, text) as select $1 + 1, $2
execute young_arg (1, 'it''s')
execute young_arg (1 + 1, $$x$$)
deallocate prepare young_arg
prepare young_insert as insert into app.t values (910, 9, 'young')
execute young_insert
EXECUTE "young_insert"
execute U&"young_inser\0074"
/* a comment */ execute /* another */ young_insert ;
deallocate young_insert
prepare young_begin as select 1
execute nobody_prepared_this
deallocate nobody_prepared_this
execute old_read
execute old_read_arg (3)
execute old_insert
execute old_delete
execute old_function
execute old_update (1)
execute "Old Quoted"
execute OLD_INSERT
execute old_cte
execute old_next
execute old_setval
execute old_config
execute old_lock
explain analyze execute old_insert
explain (analyze, costs off) execute old_update (2)
explain (costs off) execute old_insert
create table app.from_execute as execute old_read
fetch 2 from old_cursor
move 1 in old_cursor
close old_cursor
declare held cursor with hold for select id from app.t order by id
fetch all from held
close held
begin; declare h cursor with hold for select count(*) from app.u; commit; fetch h; close h
listen news
unlisten *
load 'plpgsql'
load 'nothing_such'
show default_transaction_read_only
select current_setting('default_transaction_read_only')
select set_config('app.mine', '1', false)
select set_config('search_path', 'app', false)
select pg_advisory_lock_shared(11)
select pg_advisory_unlock_shared(11)
~select txid_current() > 0
~select pg_current_xact_id() is not null
~select pg_export_snapshot() is not null
~select pg_sleep(0.001)
select pg_cancel_backend(0)
notify news
notify news, 'payload'
select pg_notify('news', 'x')
begin; notify news; rollback
checkpoint
prepare transaction 'nothing'
begin; select 1; prepare transaction 'read'
commit prepared 'nothing'
rollback prepared 'nothing'
close all
reset all
^discard all
^discard temp
discard sequences
deallocate all
execute old_insert
^discard all;
^DISCARD ALL
reset  ALL ;
select E'a\'b'¶'\'; insert into app.t values (1028) --'
select id from app.t for read only
^set standard_conforming_strings = off
^select 'a\''; insert into app.t values (1199) --'
^select 'a\'; insert into app.t values (1200) --'
^select '\'' ; insert into app.t values (1201)
^prepare odd as select '\'; insert into app.t values (1202) --'
^reset standard_conforming_strings
^discard all; select app.fw(1119)
selec 1
!set local no_such_setting = 1
set transaction isolation level nothing
!set constraints no_such_constraint deferred
set no_such_setting = 1
begin isolation level nothing
