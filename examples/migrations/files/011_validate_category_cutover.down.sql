alter table "Recipe" drop constraint "Recipe_categoryId_fkey", drop constraint recipe_category_mapped,
    add constraint recipe_category_mapped check (category is null or "categoryId" is not null) not valid,
    add constraint "Recipe_categoryId_fkey" foreign key ("categoryId") references "Category" not valid;
