-- Defaults that are the same for all rows are kept in the catalog: NOT NULL costs no rewrite. A default such as
-- clock_timestamp() would.
alter table contacts
    add column analytics_enabled boolean not null default true,
    add column last_analytics_update timestamptz not null default now();
