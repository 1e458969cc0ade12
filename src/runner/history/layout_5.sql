-- From layout 4 to layout 5: approvals of plans, and decisions about runs that failed.
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

insert into pgdrain.layout (version) values (5);
