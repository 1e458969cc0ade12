-- From layout 1 to layout 2: runs may let others read.
alter table pgdrain.run drop constraint run_traffic_check,
    add constraint run_traffic_check check (traffic in ('auto', 'open', 'read_only', 'exclusive'));
insert into pgdrain.layout (version) values (2);
