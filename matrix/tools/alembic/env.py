"""As Alembic's own template has it, with the connection string from the environment."""

import os

from alembic import context
from sqlalchemy import create_engine, pool, text

engine = create_engine(os.environ["DATABASE_URL"], poolclass=pool.NullPool)
with engine.connect() as connection, engine.connect() as second:
    # Some projects look at the database from a connection of their own.
    second.execute(text("select count(*) from pg_catalog.pg_class"))
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
