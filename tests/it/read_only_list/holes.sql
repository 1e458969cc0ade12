-- What passes in read-only mode although it changes something, as docs/read-only.md says: the lexer
-- does not see it, and the server lets it pass in a read-only transaction. A line is the statement, =>
-- and a query whose answer it changes. The test asserts that it still does, so that the documentation
-- stays true.
select app.fw_dynamic('analyze app.docs') => select count(*) from pg_statistic where starelid = 'app.docs'::regclass
select app.fw_dynamic('reindex table app.u') => select string_agg(relfilenode::text, ',' order by oid) from pg_class
select app.fw_dynamic('cluster app.clustered') => select relfilenode from pg_class where oid = 'app.clustered'::regclass
select app.fw_dynamic('explain analyze create table app.by_explain as select 1') => select count(*) from pg_class
select app.fw_linked('insert into app.t values (1300)') => select count(*) from app.t
select app.fw_lo() => select count(*) from pg_largeobject_metadata
