-- From layout 2 to layout 3: files may run in batches, and stop between two of them.
alter table pgdrain.migration drop constraint migration_tx_mode_check,
    add constraint migration_tx_mode_check check (tx_mode in ('file', 'none', 'batches')),
    drop constraint migration_state_check,
    add constraint migration_state_check
        check (state in ('running', 'applied', 'failed', 'dirty', 'reverted', 'begun'));

-- How far a file is that runs in batches. Each batch writes this row in its own transaction, so that
-- it is counted if and only if it is committed. last_key is the end of the last batch: a value of
-- key_column, or without one a number of blocks. Nothing behind end_key belongs to the file.
create table pgdrain.backfill (
    source      text not null,
    version     text not null,
    fingerprint bytea not null check (octet_length(fingerprint) = 32),
    run_id      uuid not null references pgdrain.run,
    key_column  text,
    last_key    text,
    end_key     text,
    batches     bigint not null default 0,
    scanned     bigint not null default 0,
    rows_done   bigint not null default 0,
    rows_before bigint,
    started_at  timestamptz not null default clock_timestamp(),
    updated_at  timestamptz not null default clock_timestamp(),
    finished_at timestamptz,
    primary key (source, version)
);

insert into pgdrain.layout (version) values (3);
