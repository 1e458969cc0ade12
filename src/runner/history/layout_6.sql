-- From layout 5 to layout 6: what rehearsals found, and how long each statement took in them.
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

insert into pgdrain.layout (version) values (6);
