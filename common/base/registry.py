"""Doors for new things: a closed list of names, each with the module where the thing lives.

A contract is data and names what it wants: a task, a method, a trust model. What a name means is
decided by the installed package alone, and policies are checked against these names. A new thing is
one new file and one line in the registry of its kind.

Invariants:
    * The list is closed: nothing is registered at run time, and no name leads outside the package.
    * Names are known without importing what is behind them, so an auditor's machine needs no torch.

Example:
    >>> doors: Registry[int] = Registry("number", {"pi": "math:pi", "tau": "math:tau"})
    >>> round(doors["tau"], 2), doors.names
    (6.28, ('pi', 'tau'))
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from types import MappingProxyType
from typing import Generic, TypeVar, cast

from presspool.common.base.errors import ContractError

T = TypeVar("T")


class Registry(Generic[T]):
    """Names, and the things that they stand for, imported when they are first asked for.

    Args:
        kind: what the things are, for messages.
        where: name to "module:attribute".
        refused: other names that people know, and why nothing lies behind them; in small letters.

    Attributes:
        refused: as given.
    """

    def __init__(
        self, kind: str, where: Mapping[str, str], refused: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._kind, self._where = kind, MappingProxyType(dict(where))
        self.refused = MappingProxyType(dict(refused))

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order of the list."""
        return tuple(self._where)

    def check(self, name: str) -> str:
        """The name, if it is one of the list.

        Raises:
            ContractError: it is not; the reason is given, or the nearest one is suggested.
        """
        if name not in self._where:
            if reason := self.refused.get(name.lower().replace("_", "-")):
                raise ContractError(
                    f"a {self._kind} that is not offered",
                    expected=f"one of {', '.join(self._where)}",
                    got=name,
                    advice=reason,
                )
            near = get_close_matches(name, self._where, n=1)
            raise ContractError(
                f"unknown {self._kind}",
                expected=f"one of {', '.join(self._where)}",
                got=name,
                advice=f"did you mean {near[0]!r}?" if near else "",
            )
        return name

    def __getitem__(self, name: str) -> T:
        """The thing of this name; raises as `check`."""
        module, _, attribute = self._where[self.check(name)].partition(":")
        return cast(T, getattr(import_module(module), attribute))
