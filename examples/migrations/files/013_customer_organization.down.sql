drop trigger map_customer_organization on opportunities;
drop function map_customer_organization();
alter table opportunities drop column customer_organization_id;
