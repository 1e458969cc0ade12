update opportunities set customer_organization_id = null where customer_organization_id is not null;
