-- Fails, and changes nothing, once a balance needs more than four bytes.
ALTER TABLE accounts ALTER COLUMN balance TYPE integer;
