alter table "InventoryMovement" drop constraint "InventoryMovement_createdBy_fkey";
alter table "Company" drop constraint "Company_ownerId_fkey";
