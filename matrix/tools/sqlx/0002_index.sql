-- no-transaction
create index concurrently sqlx_items_name on sqlx_items (name);
