-- From layout 3 to layout 4: approvals of plans, and decisions about runs that failed.
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

create function pgdrain.append_only() returns trigger language plpgsql as $$
begin
    raise exception 'pgdrain.% is only ever added to', tg_table_name using errcode = '55000';
end $$;
create trigger append_only before update or delete or truncate on pgdrain.approval
    for each statement execute function pgdrain.append_only();
create trigger append_only before update or delete or truncate on pgdrain.decision
    for each statement execute function pgdrain.append_only();

insert into pgdrain.layout (version) values (4);
