"""Members, invitations and certificates.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of `presspool.server.membership.member_schema`."""
    op.create_table(
        "outlets",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("update_key", sa.LargeBinary(), nullable=False),
        sa.Column("log_key", sa.LargeBinary(), nullable=False),
        sa.Column("admitted", sa.BigInteger(), nullable=False),
        sa.Column("revoked", sa.BigInteger()),
        sa.Column("reason", sa.String(500)),
    )
    membership = sa.text("revoked IS NULL")
    op.create_index(
        "one_membership_a_name",
        "outlets",
        ["name"],
        unique=True,
        sqlite_where=membership,
        postgresql_where=membership,
    )
    op.create_table(
        "invitations",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("made", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("withdrawn", sa.BigInteger()),
        sa.Column("requested", sa.BigInteger()),
        sa.Column("disputed", sa.BigInteger()),
        sa.Column("request", sa.LargeBinary()),
        sa.Column("update_key", sa.LargeBinary()),
        sa.Column("log_key", sa.LargeBinary()),
        sa.Column("outlet_id", sa.Integer(), sa.ForeignKey("outlets.id")),
    )
    op.create_index("ix_invitations_name", "invitations", ["name"])
    op.create_table(
        "certificates",
        sa.Column("serial", sa.String(40), primary_key=True),
        sa.Column("outlet_id", sa.Integer(), sa.ForeignKey("outlets.id"), nullable=False),
        sa.Column("begins", sa.BigInteger(), nullable=False),
        sa.Column("ends", sa.BigInteger(), nullable=False),
        sa.Column("pem", sa.LargeBinary(), nullable=False),
    )
    op.create_index("ix_certificates_outlet_id", "certificates", ["outlet_id"])
