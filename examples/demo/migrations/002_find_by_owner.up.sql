-- Without CONCURRENTLY: alone in the database there is nobody to block, and it is one pass, not two.
CREATE INDEX accounts_owner_idx ON accounts (owner);
