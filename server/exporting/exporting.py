"""An export: written beside its place, read back, compared, and only then there.

Invariants:
    * The folder appears whole, and only if what was read back is within the form's tolerance.
    * Whatever ends it before, an error, Ctrl-C or a full disk, leaves nothing behind; a kill leaves
      a folder `.NAME.…` beside the place, which nothing reads: it may be deleted.
    * All that can be refused before the base model is loaded is refused then.

Example: `export(ExportPlan(adapter=read_adapter(path), form=FORMATS["onnx"], to=path))`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors import SafetensorError

from presspool.common.base.errors import FolderError, InputError, StorageError
from presspool.common.base.validation import pairs
from presspool.common.released.adapter_folder import AdapterFolder
from presspool.common.released.exports.export_format import EXACT, ExportFormat
from presspool.common.released.exports.likeness import Difference, compare
from presspool.common.released.exports.placed import Placed, placed
from presspool.common.released.exports.pruning import SHARES, PrunedRow, matrices, prune, table
from presspool.common.released.exports.public_texts import FEWEST, PublicTexts
from presspool.server.exporting.export_papers import card_bytes, report, write_papers

ROOM = 3
"""An export and what is written on its way are smaller than so many times the base's weights."""


@dataclass(frozen=True, kw_only=True)
class ExportPlan:
    """What is asked for.

    Attributes:
        adapter: checked.
        form: in which form.
        to: the folder, which is not there.
        texts: public file to compare on; None for made texts.
        columns: how the file calls the task's columns, "NAME=COLUMN".
        prune: share of every matrix's numbers that become zero, below 1; None for none.
    """

    adapter: AdapterFolder
    form: ExportFormat
    to: Path
    texts: Path | None = None
    columns: Sequence[str] = ()
    prune: float | None = None


@dataclass(frozen=True, kw_only=True)
class Export:
    """What was made.

    Attributes:
        path: the folder.
        found: the comparison.
        said: what its `export.json` says, but for the files.
    """

    path: Path
    found: Difference
    said: dict[str, Any]


def export(plan: ExportPlan, advance: Callable[[], None] = lambda: None) -> Export:
    """Make one.

    Args:
        plan: what.
        advance: told of every text that is compared.

    Raises:
        InputError: the form cannot hold it, the folder is there, the card is another's.
        PressPoolError: what was read back is too far off; nothing is left.
        StorageError: no room, or the disk refuses; nothing is left.
    """
    check(plan)
    original = placed(plan.adapter)
    texts = _texts(plan, original)
    written, rows = plan.form.prepared(placed(plan.adapter)), tuple[PrunedRow, ...]()
    if plan.prune is not None:
        whole, rows = table(original, written, texts, advance)
        whole.refuse(EXACT, where="folding the adapter into its base")
        prune(matrices(written), plan.prune)
        # What is read back is held against what was written: another one, pruned alike.
        original = plan.form.prepared(placed(plan.adapter))
        prune(matrices(original), plan.prune)
    with _draft(plan.to) as folder:
        _require_room(plan.to.parent, written)
        plan.form.write(written, folder)
        del written
        other = plan.form.read(plan.adapter.contract, folder)
        found = compare(original, other, texts, advance)
        found.refuse(plan.form.tolerance, where=f"--format {plan.form.name}")
        said = report(plan.adapter, plan.form, texts.source, found, share=plan.prune, rows=rows)
        write_papers(folder, plan.adapter, said, found.words)
    return Export(path=plan.to, found=found, said=said)


def turns(plan: ExportPlan) -> int:
    """How often `export` tells of a text, of as few as there may be."""
    return FEWEST * (1 if plan.prune is None else 2 + len(SHARES))


def check(plan: ExportPlan) -> None:
    """All that can be refused before anything is loaded; raises as `export`."""
    if plan.to.exists() or plan.to.is_symlink():
        raise FolderError(
            "there is something already",
            where=f"--to {plan.to}",
            expected="a name that is free",
            advice="choose another, or move it away",
        )
    if plan.prune is not None and plan.texts is None:
        raise InputError(
            "what pruning costs is measured on labelled public texts",
            where="--prune",
            expected="--texts FILE beside it",
        )
    pairs(plan.columns, "--column")
    if plan.columns and plan.texts is None:
        raise InputError(
            "no file whose columns could be named",
            where="--column",
            expected="--texts FILE beside it",
        )
    card_bytes(plan.adapter)
    plan.form.check(plan.adapter.contract)


def _texts(plan: ExportPlan, original: Placed) -> PublicTexts:
    if plan.texts is None:
        return PublicTexts.made(original.task)
    found = PublicTexts.of_file(plan.texts, original.task, plan.columns)
    if plan.prune is not None and not found.answered:
        raise InputError(
            "what pruning costs is measured on labelled public texts",
            where=f"--texts {plan.texts}",
            expected=f"the columns {', '.join(original.task.columns)}",
            advice="name other columns with --column NAME=COLUMN",
        )
    return found


def _require_room(parent: Path, made: Placed) -> None:
    size = ROOM * sum(value.nbytes for value in made.whole.parameters())
    free = shutil.disk_usage(parent).free
    if free < size:
        raise StorageError(
            "no room",
            where=str(parent),
            expected=f"{size:,} bytes free",
            got=f"{free:,}",
            advice="make room, or name another place with --to",
        )


@contextmanager
def _draft(to: Path) -> Iterator[Path]:
    """A folder that takes its place when the block ends well, and goes in any other case."""
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        # A folder of a folder, for the outer is its owner's alone; nobody else's draft is in it.
        with TemporaryDirectory(prefix=f".{to.name}.", dir=to.parent) as place:
            draft = Path(place) / to.name
            draft.mkdir()
            yield draft
            draft.rename(to)
    except (OSError, SafetensorError) as error:
        raise StorageError(
            "cannot write",
            where=str(to),
            got=getattr(error, "strerror", None) or error,
            advice="make room or fix the permissions, then type it again",
        ) from None
