alter table contacts drop column last_analytics_update, drop column analytics_enabled;
