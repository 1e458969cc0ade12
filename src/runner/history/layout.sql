-- State of the migration runner, layout 9. Created under the migration lock, in one transaction.
create table pgdrain.layout (
    version      int primary key,
    installed_at timestamptz not null default clock_timestamp()
);

-- A run of up or down files. At most one is unfinished: its owner holds the migration lock. fp_before is
-- the SHA-256 of the schema without pgdrain's own, from the first file on; fp_after is missing where
-- nobody could look.
create table pgdrain.run (
    run_id       uuid primary key,
    direction    text not null check (direction in ('up', 'down')),
    traffic      text not null check (traffic in ('auto', 'open', 'read_only', 'exclusive')),
    state        text not null,
    requested_by text not null,
    reason       text,
    started_at   timestamptz not null default clock_timestamp(),
    finished_at  timestamptz,
    exit_code    smallint,
    report       jsonb,
    fp_before    bytea check (octet_length(fp_before) = 32),
    fp_after     bytea check (octet_length(fp_after) = 32)
);
create unique index run_one_unfinished on pgdrain.run ((true)) where finished_at is null;

-- Where each migration stands. xid is the transaction that runs it: pg_xact_status() tells how it
-- ended when nobody was left to hear the answer. Outside of a transaction statements_done is written by each
-- statement's own transaction (counted), but for the one named by alone, which the server takes in none.
-- down_run is the text of the down file run last; up_done says how many statements of the up file
-- were there when a way back began from a file that was not whole. fp_before and fp_after are of the
-- file that ran last.
create table pgdrain.migration (
    source           text not null,
    version          text not null,
    version_key      numeric[] not null,
    name             text not null,
    checksum         bytea not null check (octet_length(checksum) = 32),
    raw_sha256       bytea not null check (octet_length(raw_sha256) = 32),
    tx_mode          text not null check (tx_mode in ('file', 'none', 'batches')),
    state            text not null check (state in ('running', 'applied', 'failed', 'dirty', 'reverted', 'begun', 'partial')),
    direction        text not null check (direction in ('up', 'down')),
    statements_total int not null,
    statements_done  int not null default 0,
    failed_stmt      int,
    failed_sqlstate  text,
    failed_message   text,
    up_sql           text not null,
    down_sql         text,
    xid              xid8,
    pid              int,
    backend_start    timestamptz,
    counted          boolean not null default false,
    alone            int,
    down_run         text,
    up_done          int,
    up_total         int,
    run_id           uuid not null references pgdrain.run,
    applied_by       text not null default session_user,
    started_at       timestamptz not null default clock_timestamp(),
    finished_at      timestamptz,
    fp_before        bytea check (octet_length(fp_before) = 32),
    fp_after         bytea check (octet_length(fp_after) = 32),
    primary key (source, version)
);

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

-- What happened to migrations, in order; never changed. Written with the change it tells of.
create table pgdrain.event (
    id      bigint generated always as identity primary key,
    run_id  uuid references pgdrain.run,
    at      timestamptz not null default clock_timestamp(),
    type    text not null,
    version text,
    data    jsonb not null default '{}'
);

-- Who approved which plan, and who took that back. Only ever added to; the triggers keep from changing
-- it by mistake. said_by is what the caller said, written_by who the database saw.
create table pgdrain.approval (
    id         bigint generated always as identity primary key,
    kind       text not null check (kind in ('approve', 'revoke')),
    plan       text not null,
    role       text not null,
    said_by    text not null,
    written_by text not null default session_user,
    at         timestamptz not null default clock_timestamp(),
    expires_at timestamptz,
    reason     text,
    check ((kind = 'approve') = (expires_at is not null))
);
create index approval_plan on pgdrain.approval (plan, role);

-- What was decided about a run that failed; the last one counts.
create table pgdrain.decision (
    id         bigint generated always as identity primary key,
    run_id     uuid not null references pgdrain.run,
    decision   text not null check (decision in ('fix_forward', 'rollback')),
    decided_by text not null,
    written_by text not null default session_user,
    at         timestamptz not null default clock_timestamp(),
    reason     text
);

-- How far runs are, while their own transactions show nothing: the newest line of each step, written by
-- the watcher on a connection of its own.
create table pgdrain.progress (
    run_id uuid not null references pgdrain.run,
    phase  text not null,
    step   text not null,
    at     timestamptz not null default clock_timestamp(),
    pct    numeric(5, 2) check (pct between 0 and 100),
    detail jsonb not null default '{}',
    primary key (run_id, phase, step)
);

-- What rehearsals found, and how long each statement took in them.
create table pgdrain.rehearsal (
    rehearsal_id uuid primary key,
    place        text not null check (place in ('scratch', 'staging', 'here')),
    data         text not null check (data in ('none', 'full')),
    requested_by text not null,
    started_at   timestamptz not null,
    finished_at  timestamptz not null default clock_timestamp(),
    exit_code    smallint not null,
    report       jsonb not null
);

-- A statement is known by its text: scale is how many rows were made up for each table.
create table pgdrain.rehearsed (
    rehearsal_id uuid not null references pgdrain.rehearsal on delete cascade,
    number       int not null,
    sha256       text not null,
    file         text not null,
    scale        int,
    elapsed_ms   bigint not null,
    primary key (rehearsal_id, number)
);
create index rehearsed_sha256 on pgdrain.rehearsed (sha256);

-- Views, rules, triggers, policies and grants as they were before a run, in the order in which they
-- can be made.
create table pgdrain.saved_object (
    run_id     uuid not null references pgdrain.run,
    place      bigint not null,
    kind       text not null,
    name       text not null,
    relation   text,
    statements text[] not null,
    primary key (run_id, place),
    unique (run_id, kind, name)
);

-- The schemas of the last runs, a line for each part.
create table pgdrain.schema_dump (
    fingerprint bytea primary key check (octet_length(fingerprint) = 32),
    seen_at     timestamptz not null default clock_timestamp(),
    lines       text[] not null
);

insert into pgdrain.layout (version) values (9);
