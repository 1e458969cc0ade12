-- Nullable and without a default: no row is written. Old code writes company_id alone, through the view.
alter table opportunities add column customer_organization_id bigint;
create function map_customer_organization() returns trigger language plpgsql
    set search_path = pg_catalog, public as $$
begin
    if new.customer_organization_id is null
            or tg_op = 'UPDATE' and new.company_id is distinct from old.company_id
                and new.customer_organization_id is not distinct from old.customer_organization_id then
        new.customer_organization_id := new.company_id;
    end if;
    return new;
end $$;
create trigger map_customer_organization before insert or update of company_id on opportunities
    for each row execute function map_customer_organization();
