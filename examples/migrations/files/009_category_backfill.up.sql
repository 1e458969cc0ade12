-- The statement writes what is there: the trigger maps it, by the same rule as for everybody else.
-- pgdrain:batch table="Recipe" size=1000 pause=10ms done="category is not null and ""categoryId"" is null"
-- pgdrain:assert post select not exists (select from "Recipe" where category is not null and "categoryId" is null)
update "Recipe" set category = category where :batch;
