-- What the migrations of this directory begin with: pieces of the databases that the requirement
-- documents are about, as they were before. Names are the documents'.

-- Document 4: recipes. Two fields say what category a recipe has; applications write the old one.
create table "User" (id bigint generated always as identity primary key, email text not null unique);
create table "Company" (
    id bigint generated always as identity primary key,
    name text not null,
    "ownerId" bigint
);
create table "Category" (id bigint generated always as identity primary key, name text not null unique);
create table "Ingredient" (
    id bigint generated always as identity primary key,
    name text not null,
    "packPrice" numeric(10, 2) not null
);
create table "Recipe" (
    id bigint generated always as identity primary key,
    "companyId" bigint not null references "Company",
    name text not null,
    description text,
    "sellingPrice" numeric(10, 2),
    "yieldQuantity" numeric(10, 2) not null default 1,
    "categoryId" bigint,
    category text
);
create index "Recipe_companyId_idx" on "Recipe" ("companyId");
create table "RecipeItem" (
    id bigint generated always as identity primary key,
    "recipeId" bigint not null references "Recipe",
    "ingredientId" bigint not null references "Ingredient",
    quantity numeric(10, 3) not null
);
create table "RecipeSection" (
    id bigint generated always as identity primary key,
    "recipeId" bigint not null references "Recipe",
    "order" int not null,
    title text not null
);
create table "InventoryMovement" (
    id bigint generated always as identity primary key,
    "ingredientId" bigint not null references "Ingredient",
    "createdBy" bigint,
    "createdAt" timestamptz not null default now(),
    amount numeric(10, 3) not null
);

-- Document 0: deals, which are to be called opportunities.
create table companies (id bigint generated always as identity primary key, name text not null);
create table deals (
    id bigint generated always as identity primary key,
    company_id bigint references companies,
    title text not null,
    amount numeric(12, 2) not null default 0
);

-- Document 3: contacts, seen by policies. Roles belong to the whole server.
do $$
begin
    if not exists (select from pg_roles where rolname = 'authenticated') then
        create role authenticated nologin;
    end if;
end $$;
create table contacts (
    id uuid primary key default gen_random_uuid(),
    organization_id uuid not null,
    email text not null
);
alter table contacts enable row level security;
create policy contacts_of_organization on contacts for select to authenticated
    using (organization_id = nullif(current_setting('app.organization', true), '')::uuid);
grant select on contacts to authenticated;
