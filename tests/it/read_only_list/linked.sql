-- Run as a superuser in the database `list`: a function of hers that connects anew, as dblink allows.
create extension dblink;
create function app.fw_linked(q text) returns text language sql security definer as
    $$ select dblink_exec('host=127.0.0.1 user=app dbname=list port=' || current_setting('port'), q) $$;
