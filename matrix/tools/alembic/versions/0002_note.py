"""A column of a table that is in use, and an index outside of a transaction."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    op.add_column("pgbench_accounts", sa.Column("alembic_note", sa.Text, nullable=False, server_default="x"))
    with op.get_context().autocommit_block():
        op.create_index("alembic_items_name", "alembic_items", ["name"], postgresql_concurrently=True)
