-- A constraint takes its index with it, so the index is built again. Writers wait meanwhile; readers do not
-- have to.
alter table "RecipeSection" drop constraint "RecipeSection_recipeId_order_key";
create unique index "RecipeSection_recipeId_order_key" on "RecipeSection" ("recipeId", "order");
alter table "RecipeItem" drop constraint "RecipeItem_recipeId_ingredientId_key";
create unique index "RecipeItem_recipeId_ingredientId_key"
    on "RecipeItem" ("recipeId", "ingredientId");
