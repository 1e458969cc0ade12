-- What only a superuser may make. `app` is an ordinary role that owns its database.
create role app login createdb createrole;
create role reader;
create role other;
grant other to app;
create database list owner app;
