-- From layout 8 to layout 9: fingerprints of the schema before and after runs and files, and its lines.
-- SHA-256 of the schema without pgdrain's own. A run has fp_before from its first file on; fp_after is
-- missing where nobody could look.
alter table pgdrain.run
    add column fp_before bytea check (octet_length(fp_before) = 32),
    add column fp_after bytea check (octet_length(fp_after) = 32);
-- Of the file that ran last for this migration, up or down.
alter table pgdrain.migration
    add column fp_before bytea check (octet_length(fp_before) = 32),
    add column fp_after bytea check (octet_length(fp_after) = 32);

-- The schemas of the last runs, a line for each part.
create table pgdrain.schema_dump (
    fingerprint bytea primary key check (octet_length(fingerprint) = 32),
    seen_at     timestamptz not null default clock_timestamp(),
    lines       text[] not null
);

insert into pgdrain.layout (version) values (9);
