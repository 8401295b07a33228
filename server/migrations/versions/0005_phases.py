"""A round's phases: tasks say theirs, and a body's owner has room for it.

Tasks of before are phase 1 of their round. Their headers are of version 1, which nobody signs or
opens any more (`presspool.common.wire.envelope`): they are closed, and the run that goes on hands
its round out anew.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the phase; close what is open, and drop its tasks' bodies."""
    with op.batch_alter_table("tasks") as tasks:
        tasks.add_column(sa.Column("phase", sa.Integer, nullable=False, server_default="1"))
    with op.batch_alter_table("tasks") as tasks:
        tasks.alter_column("phase", server_default=None)
    op.execute(sa.text("UPDATE tasks SET closed = true WHERE NOT closed"))
    op.execute(sa.text("DELETE FROM chunks WHERE owner LIKE '%/%'"))
    with op.batch_alter_table("chunks") as chunks:
        chunks.alter_column("owner", existing_type=sa.String(71), type_=sa.String(80))
