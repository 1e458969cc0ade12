drop extension pg_trgm;
