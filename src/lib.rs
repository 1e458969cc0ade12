//! pgdrain: a connection-draining Postgres wire proxy.
