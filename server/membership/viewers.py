"""Who may look at the coordinator's dashboard: certificates for looking, and nothing else.

::

    certificates/viewers/NAME.pem    the certificate of each person or program that may look

Invariants:
    * A viewer's certificate opens the dashboard and no service of the outlets' port.
    * It works while its very bytes lie in the folder: removing the file works at the next request.
    * Its private key is in the file that was handed over, and nowhere else.

Example: `Viewers(home).add("editor", root, now=time.time())`.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from presspool.common.base.errors import EvidenceError, InputError
from presspool.common.base.files import replace_file
from presspool.common.pki.certificates import (
    Credential,
    certificate_from_der,
    certificate_to_der,
    issue_viewer,
    to_pkcs12,
)

FOLDER = Path("certificates") / "viewers"


class Viewers:
    """The folder of those who may look.

    Args:
        home: the coordinator's home.
    """

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER

    def add(self, name: str, root: Credential, *, now: float) -> Credential:
        """Let somebody look; returns what they need for it.

        Raises:
            InputError: the name is taken.
            StorageError: the disk refuses.
        """
        path = self._folder / f"{name}.pem"
        if path.exists():
            raise InputError(
                "may look already",
                where=name,
                expected="a new name",
                advice=f"presspool coordinator viewer {name} --remove takes it back",
            )
        made = issue_viewer(root, name, now=now)
        self._folder.mkdir(exist_ok=True)
        replace_file(path, made.certificate)
        return made

    def remove(self, name: str) -> None:
        """Let somebody look no more; raises `InputError` where nobody of that name may."""
        try:
            (self._folder / f"{name}.pem").unlink()
        except FileNotFoundError:
            raise InputError(
                "nobody of that name may look",
                where=name,
                expected=", ".join(self.names()) or "nobody at all",
            ) from None

    def names(self) -> list[str]:
        """Everybody who may look."""
        return sorted(path.stem for path in self._folder.glob("*.pem"))

    def admits(self, der: bytes) -> bool:
        """Whether this certificate is one of those in the folder."""
        try:
            known = {certificate_to_der(path.read_bytes()) for path in self._folder.glob("*.pem")}
            return certificate_to_der(certificate_from_der(der)) in known
        except (OSError, ValueError, EvidenceError):
            return False


def for_the_holder(
    made: Credential, root: Credential, name: str, *, kind: str
) -> tuple[bytes, str | None]:
    """The file that somebody needs to look, `.p12` or `.pem`, for nobody else to read.

    Returns:
        Its content, and the password of a `.p12`; a `.pem` has none.
    """
    if kind == ".pem":
        return made.certificate + made.key + root.certificate, None
    password = secrets.token_urlsafe(12)
    return to_pkcs12(made, root.certificate, name=name, password=password), password
