drop view deals;
alter table opportunities rename to deals;
