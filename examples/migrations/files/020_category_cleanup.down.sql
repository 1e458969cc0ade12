alter table "Recipe" add column category text;
update "Recipe" r set category = c.name from "Category" c where c.id = r."categoryId";
create function sync_recipe_category() returns trigger language plpgsql
    set search_path = pg_catalog, public as $$
begin
    if tg_op = 'UPDATE' and new."categoryId" is distinct from old."categoryId" then
        new.category := (select c.name from "Category" c where c.id = new."categoryId");
    elsif new.category is not null
            and (new."categoryId" is null or tg_op = 'UPDATE' and new.category is distinct from old.category) then
        -- A name that nobody has used yet becomes a category; of two who are the first one is.
        insert into "Category" (name) values (new.category) on conflict (name) do nothing;
        new."categoryId" := (select c.id from "Category" c where c.name = new.category);
    elsif new.category is null then
        new.category := (select c.name from "Category" c where c.id = new."categoryId");
    end if;
    return new;
end $$;
create trigger sync_recipe_category_trigger
    before insert or update of category, "categoryId" on "Recipe"
    for each row execute function sync_recipe_category();
alter table "Recipe"
    add constraint recipe_category_mapped check (category is null or "categoryId" is not null);
