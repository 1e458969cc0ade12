"""A new table."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.create_table("alembic_items", sa.Column("id", sa.BigInteger, primary_key=True), sa.Column("name", sa.Text))
