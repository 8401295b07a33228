"""Runs: what was submitted and how far it is."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "runs",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("contract", sa.String(71), nullable=False),
        sa.Column("phase", sa.Double, nullable=False),
        sa.Column("state", sa.String(16), nullable=False, index=True),
        sa.Column("submitted", sa.Double, nullable=False),
        sa.Column("ended", sa.Double),
        sa.Column("note", sa.Text, nullable=False),
    )
