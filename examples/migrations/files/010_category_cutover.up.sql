-- From now on no recipe has the one field without the other.
alter table "Recipe"
    add constraint recipe_category_mapped check (category is null or "categoryId" is not null) not valid;
alter table "Recipe"
    add constraint "Recipe_categoryId_fkey" foreign key ("categoryId") references "Category" not valid;
