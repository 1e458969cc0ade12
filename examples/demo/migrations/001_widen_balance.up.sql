-- Balances outgrow four bytes. This rewrites the table and all its indexes under ACCESS EXCLUSIVE:
-- run beside traffic, it would wait behind every open transaction, and all others behind it.
ALTER TABLE accounts ALTER COLUMN balance TYPE bigint;
