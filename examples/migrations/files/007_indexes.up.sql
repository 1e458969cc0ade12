-- Without IF NOT EXISTS: it passes over the invalid index that a failed build leaves.
create index concurrently idx_recipe_list_covering
    on "Recipe" ("companyId", name) include ("sellingPrice");
create index concurrently idx_inventory_movement_history
    on "InventoryMovement" ("ingredientId", "createdAt" desc);
create index concurrently idx_inventory_movement_created_by on "InventoryMovement" ("createdBy");
create index concurrently idx_company_owner on "Company" ("ownerId");
create index concurrently idx_recipe_category on "Recipe" ("categoryId");
