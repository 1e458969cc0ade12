create index concurrently idx_recipe_name_trgm on "Recipe" using gin (name gin_trgm_ops);
create index concurrently idx_recipe_description_trgm on "Recipe" using gin (description gin_trgm_ops);
