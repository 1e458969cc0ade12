-- Batches of the extended protocol that write where each part by itself is harmless, or hides it: the
-- parts stand between ;;, and all go out before one Sync. FLUSH is one of its messages, and PARSE and BIND
-- are of statements with a name.
discard all ;; select app.fw(2001)
reset all ;; commit ;; select app.fw(2002)
reset all ;; end ;; begin ;; select app.fw(2003) ;; commit
select app.fw_escape() ;; commit ;; select app.fw(2004)
select app.fw_escape() ;; commit ;; begin ;; select app.fw(2005) ;; commit
begin ;; select app.fw_escape() ;; commit ;; select app.fw(2006)
begin ;; set transaction read write ;; select app.fw(2007) ;; commit
set transaction read write ;; select app.fw(2008)
set transaction read write ;; insert into app.t values (2009)
begin read write ;; select app.fw(2010) ;; commit
begin ;; commit and chain ;; set transaction read write ;; select app.fw(2011) ;; commit
commit ;; begin ;; set transaction read write ;; select app.fw(2012) ;; commit
select 1 ;; rollback ;; set transaction read write ;; select app.fw(2013) ;; commit
prepare b as set transaction read write ;; select app.fw(2014)
prepare b as select app.fw_escape() ;; execute b ;; commit ;; select app.fw(2015)
prepare b as insert into app.t values (2016) ;; execute b
select app.fw_dynamic('reset all') ;; commit ;; select app.fw(2017)
select app.fw_escape() ;; vacuum app.docs ;; select app.fw(2018)
select app.fw_escape() ;; discard all ;; select app.fw(2019)
discard all ;; discard all ;; select app.fw(2020)
select app.fw_escape() ;; listen x ;; commit ;; values (app.fw(2021))
select app.fw_escape() ;; rollback ;; select app.fw(2022)
select set_config('app.x', '1', false) ;; commit ;; insert into app.t values (2023)
begin ;; savepoint a ;; set transaction read write ;; insert into app.t values (2024) ;; commit
savepoint a ;; insert into app.t values (2025)
begin ;; insert into app.t values (2026) ;; rollback ;; insert into app.t values (2027)
select 1 ;; insert into app.t values (2028) ;; select 1
begin ;; select 1 ;; commit ;; insert into app.t values (2029)
call app.p_escapes() ;; select 1
execute old_insert ;; select 1
select 1 ;; execute old_insert
execute old_config ;; commit ;; select app.fw(2030)
table app.v_escapes ;; commit ;; table app.v_writes
begin ;; table app.v_escapes ;; commit ;; table app.v_writes
select !!! 1 ;; commit ;; table app.v_writes
prepare c1 as select lo_unlink(880001) ;; execute c1
prepare c2 as select lo_unlink(880001) ;; BIND c2
prepare c3 as select app.fw(2040) ;; BIND c3
select app.fw_dynamic('prepare c4 as select lo_unlink(880001)') ;; BIND c4
select app.fw_dynamic('prepare c5 as select lo_unlink(880001)') ;; execute c5
PARSE c6 select lo_unlink(880001) ;; BIND c6
PARSE c7 begin read write ;; BIND c7 ;; select app.fw(2041) ;; commit
PARSE c8 set transaction read write ;; BIND c8 ;; select app.fw(2042)
discard all ;; FLUSH ;; select app.fw(2050)
reset all ;; FLUSH ;; commit ;; select app.fw(2051)
reset all ;; FLUSH ;; commit ;; FLUSH ;; select app.fw(2052)
select app.fw_escape() ;; FLUSH ;; commit ;; FLUSH ;; select app.fw(2053)
select app.fw_escape() ;; FLUSH ;; commit ;; select app.fw(2054)
begin ;; FLUSH ;; select app.fw_escape() ;; FLUSH ;; commit ;; FLUSH ;; select app.fw(2055)
begin ;; FLUSH ;; set transaction read write ;; FLUSH ;; select app.fw(2056) ;; commit
select 1 ;; FLUSH ;; commit ;; FLUSH ;; begin ;; set transaction read write ;; select app.fw(2057) ;; commit
prepare c9 as select lo_unlink(880001) ;; FLUSH ;; execute c9
prepare c10 as select lo_unlink(880001) ;; FLUSH ;; BIND c10
select 1 ;; FLUSH ;; insert into app.t values (2058)
select 1 ;; FLUSH ;; select lo_unlink(880001)
PARSE c11 insert into app.t values (2059) ;; FLUSH ;; BIND c11
FLUSH ;; FLUSH ;; insert into app.t values (2060) ;; FLUSH
listen x ;; FLUSH ;; vacuum app.docs
