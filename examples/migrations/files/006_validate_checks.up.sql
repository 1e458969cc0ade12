alter table "Recipe" validate constraint recipe_selling_price_positive;
alter table "Recipe" validate constraint recipe_yield_quantity_positive;
alter table "Ingredient" validate constraint ingredient_pack_price_positive;
alter table "RecipeItem" validate constraint recipe_item_quantity_positive;
