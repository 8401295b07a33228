"""What `[care] redact` of `outlet.toml` asks for, and in which columns.

Example: ``redactor_of(CareTable(redact=("EMAIL_ADDRESS",))).redacted("to ann@example.org")``.
"""

from __future__ import annotations

from presspool.client.identity.care_table import CareTable
from presspool.common.data.personal_data import Redactor, Sought

COLUMNS = ("text", "prompt", "answer", "messages", "article", "summary")
WHERE = "outlet.toml [care] redact"


def redactor_of(care: CareTable) -> Redactor:
    """The finder that `[care]` asks for; raises as `Redactor.of`."""
    return Redactor.of(
        Sought(kinds=care.redact, language=care.language, model=care.model, where=WHERE)
    )
