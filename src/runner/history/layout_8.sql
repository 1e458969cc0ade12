-- From layout 7 to layout 8: views, rules, triggers, policies and grants as they were before a run.
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

insert into pgdrain.layout (version) values (8);
