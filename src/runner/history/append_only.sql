-- What people have said is only ever added to.
create or replace function pgdrain.append_only() returns trigger language plpgsql as $$
begin
    raise exception 'pgdrain.% is only ever added to', tg_table_name using errcode = '55000';
end $$;
create trigger append_only before update or delete or truncate on pgdrain.approval
    for each statement execute function pgdrain.append_only();
create trigger append_only before update or delete or truncate on pgdrain.decision
    for each statement execute function pgdrain.append_only();
