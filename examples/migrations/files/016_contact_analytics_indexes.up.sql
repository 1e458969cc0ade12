create index concurrently idx_contacts_analytics_optimized on contacts (id) where analytics_enabled;
create index concurrently idx_contacts_org_analytics_optimized
    on contacts (organization_id, analytics_enabled);
create index concurrently idx_contacts_analytics_date on contacts (last_analytics_update desc);
