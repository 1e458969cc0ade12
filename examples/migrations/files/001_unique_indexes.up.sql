-- The indexes of two unique constraints, built while everybody writes. ADD CONSTRAINT ... UNIQUE would
-- build them behind a lock that keeps readers out, too.
create unique index concurrently "RecipeItem_recipeId_ingredientId_key"
    on "RecipeItem" ("recipeId", "ingredientId");
create unique index concurrently "RecipeSection_recipeId_order_key"
    on "RecipeSection" ("recipeId", "order");
