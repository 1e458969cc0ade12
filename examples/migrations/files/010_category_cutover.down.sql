alter table "Recipe" drop constraint "Recipe_categoryId_fkey", drop constraint recipe_category_mapped;
