drop policy "Analytics access optimized" on contacts;
drop function analytics_organization();
