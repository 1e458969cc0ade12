-- From layout 3 to layout 4: how far runs are, the newest line of each step, written by the watcher on a
-- connection of its own.
create table pgdrain.progress (
    run_id uuid not null references pgdrain.run,
    phase  text not null,
    step   text not null,
    at     timestamptz not null default clock_timestamp(),
    pct    numeric(5, 2) check (pct between 0 and 100),
    detail jsonb not null default '{}',
    primary key (run_id, phase, step)
);

insert into pgdrain.layout (version) values (4);
