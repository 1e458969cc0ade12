-- Leave this file and the next away where the extension cannot be had.
create extension pg_trgm;
