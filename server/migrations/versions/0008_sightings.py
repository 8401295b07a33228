"""When each outlet was last heard of.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
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
