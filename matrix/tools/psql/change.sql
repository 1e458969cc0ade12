-- One transaction, and a connection of its own for what cannot be in one.
\set ON_ERROR_STOP on
begin;
create table psql_items (id bigint primary key, name text not null);
alter table pgbench_accounts add column psql_note text not null default 'x';
commit;
\connect
create index concurrently psql_items_name on psql_items (name);
