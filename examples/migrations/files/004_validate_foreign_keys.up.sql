-- In a file, and so a transaction, of its own: in that of the file before, its stronger lock would be held
-- for the whole scan.
alter table "Company" validate constraint "Company_ownerId_fkey";
alter table "InventoryMovement" validate constraint "InventoryMovement_createdBy_fkey";
