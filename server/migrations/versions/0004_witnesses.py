"""Witness keys, the consortium log, ledgers' heads and cosignatures.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of the witness service, and the keys of new members."""
    for table in ("outlets", "invitations"):
        op.add_column(table, sa.Column("witness_key", sa.LargeBinary))
    op.create_table(
        "consortium",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("contract", sa.String(71), nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("contract", "round", name="one_entry_a_round"),
    )
    op.create_table(
        "ledger_leaves",
        sa.Column("log", sa.String(400), primary_key=True),
        sa.Column("start", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("hashes", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "ledger_heads",
        sa.Column("log", sa.String(400), primary_key=True),
        sa.Column("size", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("note", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "cosignatures",
        sa.Column("log", sa.String(400), primary_key=True),
        sa.Column("size", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("witness", sa.String(400), primary_key=True),
        sa.Column("line", sa.Text, nullable=False),
    )
    op.create_table(
        "fork_proofs",
        sa.Column("log", sa.String(400), primary_key=True),
        sa.Column("finder", sa.String(63), primary_key=True),
        sa.Column("proof", sa.LargeBinary, nullable=False),
    )
