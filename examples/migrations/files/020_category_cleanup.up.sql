-- A week of quiet after the cutover, says the document: write that day here.
-- pgdrain:disabled-until 2099-12-31
drop trigger sync_recipe_category_trigger on "Recipe";
drop function sync_recipe_category();
-- pgdrain:allow drop-without-deprecation it is about the column that goes
alter table "Recipe" drop constraint recipe_category_mapped;
-- pgdrain:allow drop-without-deprecation nobody has written it for a week, and the way back fills it again
alter table "Recipe" drop column category;
