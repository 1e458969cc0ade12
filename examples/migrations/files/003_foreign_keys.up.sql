-- From now on new rows obey. The old ones are looked at in the next file, without this lock.
alter table "Company" add constraint "Company_ownerId_fkey"
    foreign key ("ownerId") references "User" not valid;
alter table "InventoryMovement" add constraint "InventoryMovement_createdBy_fkey"
    foreign key ("createdBy") references "User" not valid;
