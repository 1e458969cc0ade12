alter table "Recipe" validate constraint recipe_category_mapped;
alter table "Recipe" validate constraint "Recipe_categoryId_fkey";
