-- Needs no rewrite since PostgreSQL 11, but ACCESS EXCLUSIVE all the same.
ALTER TABLE accounts ADD COLUMN currency text NOT NULL DEFAULT 'EUR';
