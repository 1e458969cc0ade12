-- The indexes are there: this is a moment's work, whatever the size.
alter table "RecipeItem" add constraint "RecipeItem_recipeId_ingredientId_key"
    unique using index "RecipeItem_recipeId_ingredientId_key";
alter table "RecipeSection" add constraint "RecipeSection_recipeId_order_key"
    unique using index "RecipeSection_recipeId_order_key";
