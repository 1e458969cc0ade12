-- pgdrain:batch table=opportunities size=1000 pause=10ms done="customer_organization_id is null and company_id is not null"
update opportunities set customer_organization_id = company_id where :batch;
