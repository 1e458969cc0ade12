-- Migrations say how far they are. A row of theirs would be seen by nobody before their commit; a notice
-- is seen at once, by whoever follows the run.
create function pgdrain.progress(phase text, step text, pct numeric default null) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set client_min_messages = notice
as $$
begin
    raise notice 'pgdrain:progress %', json_build_object('phase', $1, 'step', $2, 'pct', $3);
end
$$;
-- Files may run as another role, which needs nothing else here.
grant usage on schema pgdrain to public;
