create table sqlx_items (id bigint primary key, name text not null);
alter table pgbench_accounts add column sqlx_note text not null default 'x';
