-- Nothing makes a constraint not valid again but to make it anew.
alter table "InventoryMovement" drop constraint "InventoryMovement_createdBy_fkey",
    add constraint "InventoryMovement_createdBy_fkey"
        foreign key ("createdBy") references "User" not valid;
alter table "Company" drop constraint "Company_ownerId_fkey",
    add constraint "Company_ownerId_fkey" foreign key ("ownerId") references "User" not valid;
