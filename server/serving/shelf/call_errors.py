"""What a caller is told when a call fails: the dialect's own shape, and no text of the call.

::

    {"error": {"message": "…", "type": "NotFoundError", "param": "model", "code": 404}}

Invariant: a message is made of our own words, names of fields and numbers; what the caller sent is
never in it, for proxies and programs log messages.

Example:
    >>> CallError(404, "no such model", param="model").body["error"]["type"]
    'NotFoundError'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TYPES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    405: "MethodNotAllowedError",
    409: "ConflictError",
    413: "RequestTooLargeError",
    421: "MisdirectedRequestError",
    429: "RateLimitError",
    500: "InternalServerError",
    503: "ServiceUnavailableError",
}
RETRY = "retry-after"


class CallError(Exception):
    """A call that is refused.

    Args:
        status: of HTTP, one of `TYPES`.
        message: for the caller.
        param: the field at fault, if one is.
        retry: seconds after which to ask again; None to not ask again.
    """

    def __init__(
        self, status: int, message: str, *, param: str | None = None, retry: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.retry = status, message, param, retry

    @property
    def body(self) -> dict[str, Any]:
        """As the dialect has it."""
        kind = TYPES.get(self.status, "BadRequestError")
        told = {"message": self.message, "type": kind, "param": self.param, "code": self.status}
        return {"error": told}

    @property
    def headers(self) -> Mapping[str, str]:
        """Beside the body."""
        return {} if self.retry is None else {RETRY: str(self.retry)}
