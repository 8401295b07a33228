"""Receipts: what is left of an update whose body was thrown away.

Until now the row of such an update stayed among those that have a body, so that a run that went on
took it for an answer and found nothing in it. What has no body is a receipt from here on, and its
outlet is asked for its kept bytes again. (A failure has no body either; it is said again as well.)

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table and move what belongs there."""
    op.create_table(
        "receipts",
        sa.Column("task", sa.String(32), sa.ForeignKey("tasks.id"), primary_key=True),
        sa.Column("header", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.Column("received", sa.Double, nullable=False),
    )
    op.execute(
        "INSERT INTO receipts (task, header, signature, received) "
        "SELECT task, header, signature, received FROM updates "
        "WHERE upload NOT IN (SELECT owner FROM chunks)"
    )
    op.execute("DELETE FROM updates WHERE upload NOT IN (SELECT owner FROM chunks)")
