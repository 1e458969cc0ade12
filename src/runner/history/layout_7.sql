-- From layout 6 to layout 7: a file without a transaction is counted statement by statement, and goes on,
-- or back, from where it stopped.
alter table pgdrain.migration
    drop constraint migration_state_check,
    add constraint migration_state_check
        check (state in ('running', 'applied', 'failed', 'dirty', 'reverted', 'begun', 'partial')),
    -- Whether each statement is counted by its own transaction, unless it is named by alone.
    add column counted boolean not null default false,
    -- The statement that was sent without a transaction and is not counted yet, from 1.
    add column alone int,
    -- The text of the down file that was run last.
    add column down_run text,
    -- How many statements of the up file were there, and how many it has, when a way back began although it
    -- was not whole.
    add column up_done int,
    add column up_total int;
insert into pgdrain.layout (version) values (7);
