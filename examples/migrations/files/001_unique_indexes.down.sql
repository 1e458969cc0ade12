drop index concurrently "RecipeSection_recipeId_order_key";
drop index concurrently "RecipeItem_recipeId_ingredientId_key";
