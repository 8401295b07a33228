"""What is kept of an attack: `attack.json`, `attack.html`, and `empirical.json` for the run's card.

Invariant: of an attack on real readers nothing is written; its figures were on the screen.

Example: `keep(found, Path("runs/attack"), Path("runs/demo/run"))`.
"""

from __future__ import annotations

import json
from pathlib import Path

from presspool.common.audit.cards.card import EMPIRICAL_FILE
from presspool.common.base.errors import PressPoolError
from presspool.common.base.files import replace_file
from presspool.simulations.attack.attack_page import render
from presspool.simulations.attack.findings import Attack

PAGE_FILE = "attack.html"


def keep(found: Attack, folder: Path, run: Path) -> None:
    """Write the result files.

    Args:
        found: the result.
        folder: the audit's.
        run: a run folder, which gets the card's part unless the noise was reproducible; or a file.
    """
    if found.readers == "own":
        return
    replace_file(folder / "attack.json", _json(found.to_json()))
    replace_file(folder / PAGE_FILE, render(found).encode())
    if found.card and run.is_dir() and not found.reproducible:
        replace_file(run / EMPIRICAL_FILE, _json(found.card))


def require_verdict(found: Attack) -> None:
    """Fail where more leaks than is claimed, or where nothing can be said.

    Raises:
        PressPoolError: says which.
    """
    if found.epsilon is None:
        raise PressPoolError(
            "no verdict",
            where=found.outlet,
            expected="a control without noise that fires",
            got="too little was found",
            advice="try more --canaries",
        )
    if found.defect:
        raise PressPoolError(
            "more leaks than is claimed",
            where=found.outlet,
            expected=f"ε <= {found.claimed:.3f}",
            got=f"ε >= {found.epsilon:.3f}",
            advice="do not release adapters trained with this installation; report it",
        )


def _json(body: object) -> bytes:
    return (json.dumps(body, indent=2, ensure_ascii=False) + "\n").encode()
