alter table "RecipeItem" drop constraint recipe_item_quantity_positive;
alter table "Ingredient" drop constraint ingredient_pack_price_positive;
alter table "Recipe" drop constraint recipe_yield_quantity_positive,
    drop constraint recipe_selling_price_positive;
