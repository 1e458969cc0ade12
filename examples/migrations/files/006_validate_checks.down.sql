alter table "RecipeItem" drop constraint recipe_item_quantity_positive,
    add constraint recipe_item_quantity_positive check (quantity > 0) not valid;
alter table "Ingredient" drop constraint ingredient_pack_price_positive,
    add constraint ingredient_pack_price_positive check ("packPrice" > 0) not valid;
alter table "Recipe" drop constraint recipe_yield_quantity_positive,
    drop constraint recipe_selling_price_positive,
    add constraint recipe_selling_price_positive check ("sellingPrice" > 0) not valid,
    add constraint recipe_yield_quantity_positive check ("yieldQuantity" > 0) not valid;
