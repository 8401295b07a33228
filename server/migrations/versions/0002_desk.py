"""Tasks, updates, chunks and refusals.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of `presspool.server.transport.mailbox_schema`."""
    op.create_table(
        "tasks",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("run", sa.String(64), nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("outlet", sa.String(63), nullable=False),
        sa.Column("header", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.String(71), nullable=False),
        sa.Column("handed_out", sa.Double, nullable=False),
        sa.Column("closed", sa.Boolean, nullable=False),
    )
    op.create_index("tasks_of_outlet", "tasks", ["outlet", "closed"])
    op.create_index("tasks_of_run", "tasks", ["run", "round"])
    op.create_table(
        "updates",
        sa.Column("task", sa.String(32), sa.ForeignKey("tasks.id"), primary_key=True),
        sa.Column("header", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.Column("upload", sa.String(32), nullable=False, unique=True),
        sa.Column("received", sa.Double, nullable=False),
    )
    op.create_table(
        "chunks",
        sa.Column("owner", sa.String(71), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "refusals",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("outlet", sa.String(63), nullable=False),
        sa.Column("code", sa.String(32), nullable=False),
        sa.Column("run", sa.String(64), nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    """Drop them."""
    for table in ("refusals", "chunks", "updates", "tasks"):
        op.drop_table(table)
