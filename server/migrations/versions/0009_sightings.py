"""When each outlet was last heard of.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "sightings",
        sa.Column("outlet", sa.String(63), primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("version", sa.String(20), nullable=False),
        sa.Column("skew", sa.Integer),
    )
