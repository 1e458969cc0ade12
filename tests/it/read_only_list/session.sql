create temp table mine (id int)
insert into mine values (1), (2)
create temp sequence mine_s
prepare old_read as select count(*) from app.t
prepare old_read_arg (int) as select a from app.t where id = $1
prepare old_insert as insert into app.t values (901, 9, 'prepared')
prepare old_delete as delete from app.u
prepare old_function as select app.fw(902)
prepare old_update (int) as update app.t set a = a + 1 where id = $1 returning *
prepare "Old Quoted" as insert into app.t values (903, 9, 'quoted')
prepare old_cte as with w as (delete from app.t returning *) select count(*) from w
prepare old_next as select nextval('app.s')
prepare old_setval as select setval('app.s', 500)
prepare old_config as select set_config('default_transaction_read_only', 'off', false)
prepare old_lock as select * from app.t for update
declare old_cursor cursor with hold for select id from app.t order by id
