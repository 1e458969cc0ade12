-- Also the way back of the backfill: while the trigger is there, it would fill what is emptied. Nobody reads
-- the new field without it.
drop trigger sync_recipe_category_trigger on "Recipe";
drop function sync_recipe_category();
update "Recipe" set "categoryId" = null where "categoryId" is not null;
