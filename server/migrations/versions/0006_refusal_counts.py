"""Refusals are counted: each row of before is one call.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the count, and an index for finding today's row."""
    with op.batch_alter_table("refusals") as refusals:
        refusals.add_column(sa.Column("count", sa.Integer, nullable=False, server_default="1"))
    op.create_index("refusals_of_outlet", "refusals", ["outlet", "code", "run", "at"])
