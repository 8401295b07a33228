"""`presspool adapters …`: the registry of adapters, who moved them, and what holds of them.

Invariant: a command that changes something needs the registry's keys and says who did it and why.

Example: `presspool adapters add runs/first --by "A. Editor" --reason "weekly run"`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from presspool.common.base.console import err, out, print_json, progress
from presspool.common.base.foreign_text import one_line

if TYPE_CHECKING:
    from presspool.server.registry.adapter_registry import AdapterRegistry
    from presspool.server.registry.registry_keys import RegistryKeys
    from presspool.server.registry.stage_records import Action, Shelved

Place = Annotated[
    str,
    typer.Option(
        "--registry",
        envvar="PRESSPOOL_REGISTRY",
        metavar="PLACE",
        help="A folder, or a bucket as s3://BUCKET/FOLDER (extra `s3`).",
    ),
]
Keys = Annotated[Path, typer.Option(help="The folder of the registry's private keys.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
By = Annotated[str, typer.Option(help="Who does this; written down for ever.")]
Reason = Annotated[str, typer.Option(help="Why; written down for ever.")]
Which = Annotated[
    str, typer.Argument(metavar="WHICH", help="NAME@VERSION, NAME (its newest), or a digest.")
]

PLACE, _KEYS = "registry", Path("registry-keys")


def init(
    name: Annotated[str, typer.Option(help="The registry's name.")],
    registry: Place = PLACE,
    keys: Keys = _KEYS,
    as_json: Json = False,
) -> None:
    """Make a registry, and the keys that sign in its name.

    The keys stay with you, and who has them is the registry.

    Example: presspool adapters init --name newsroom --registry s3://newsroom/adapters
    """
    from presspool.server.registry.adapter_registry import AdapterRegistry
    from presspool.server.registry.object_store import ObjectStore
    from presspool.server.registry.registry_keys import RegistryKeys, require_apart

    store = ObjectStore(registry)
    require_apart(keys, registry)
    made = AdapterRegistry.create(store, RegistryKeys.made(keys, name=name), name=name)
    if as_json:
        print_json(made.about.model_dump())
        return
    out.print(f"made {made.about.name} at {registry}; its keys are in {keys}")
    err.print("give registry.json to whoever shall check adapters: --known")


def add(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    by: By,
    reason: Reason,
    ledger: Annotated[
        list[Path] | None,
        typer.Option(help="An outlet's ledger export, for the period in the lineage; repeatable."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What to call it; the run's name.")] = None,
    task: Annotated[str | None, typer.Option(help="Its use; the contract's kind.")] = None,
    language: Annotated[str | None, typer.Option(help="ISO 639-1; the model card's.")] = None,
    registry: Place = PLACE,
    keys: Keys = _KEYS,
    as_json: Json = False,
) -> None:
    """Store a run's adapter with its card, contract, result and lineage, signed, as a candidate.

    Example: presspool adapters add runs/first --by "A. Editor" --reason "weekly run"
    """
    from presspool.common.audit.evidence import sources
    from presspool.server.registry.adapter_registry import Move
    from presspool.server.registry.intake import read_run

    ledgers = {one.name: one for one in sources.read(ledger or []).outlets}
    brought = read_run(run, language=language, task=task, ledgers=ledgers)
    opened = _opened(registry)
    found = _keys(opened, keys)
    with progress("storing", total=len(brought.files)) as advance:
        one = opened.add(brought, found, Move(by=by, reason=reason), name=name, advance=advance)
    _say(opened, one, as_json=as_json)


def list_adapters(registry: Place = PLACE, as_json: Json = False) -> None:
    """List what is in the registry, and which adapter is in use for each task and language.

    Example: presspool adapters list
    """
    opened = _opened(registry)
    rows = [_row(one) for one in opened.shelves.entries.values()]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        said = [row["stage"], f"{row['task']} {row['language']}", row["id"][:19]]
        out.print(f"{row['title']}: {', '.join(said)}")
    if not rows:
        out.print("no adapter yet: presspool adapters add RUN")


def show(which: Which, registry: Place = PLACE, as_json: Json = False) -> None:
    """Show one adapter: its card's statement, who moved it and why, what judged it, and overrides.

    Example: presspool adapters show topics@1
    """
    from presspool.server.registry.registry_verdict import card_of, judged_by

    opened = _opened(registry)
    one = opened.shelves.find(which)
    card = card_of(opened, one)
    body = _row(one) | {
        "entry": opened.entry(one.entry).model_dump(mode="json"),
        "records": [record.model_dump(mode="json") for record in one.records],
        "card": card.model_dump(mode="json"),
        "judged_by": judged_by(opened, one),
    }
    if as_json:
        print_json(body)
        return
    out.print(f"{one.title}: {one.stage}, {' '.join(one.slot)}")
    out.print(f"{one.entry}\n{one_line(card.statement)}")
    for line in body["overrides"]:
        out.print(line, style="yellow")
    for record in one.records:
        what = record.action if record.entry == one.entry else f"replaced ({record.action})"
        out.print(one_line(f"{record.time} {what} by {record.by}: {record.reason}"))
    for name, digest in body["judged_by"].items():
        out.print(one_line(f"judged by {name} {digest}"))


def promote(
    which: Which,
    by: By,
    reason: Reason,
    gate: Annotated[
        Path | None, typer.Option(help="The release gate's report, on the way into production.")
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(help="The release.toml, with its files, by which it must have judged."),
    ] = None,
    without_gate: Annotated[
        bool,
        typer.Option(
            "--without-gate",
            help="Into production without the gate; name and reason are shown for ever.",
        ),
    ] = False,
    registry: Place = PLACE,
    keys: Keys = _KEYS,
    as_json: Json = False,
) -> None:
    """Move an adapter on by one stage: to staging, then into production.

    What was in production for its task and language is retired in the same moment.

    Example: presspool adapters promote topics@1 --by "A. Editor" --reason "tried on the archive"
    """
    from presspool.server.gate.release_policy import read_policy
    from presspool.server.registry.adapter_registry import Move
    from presspool.server.registry.gate_report import read_report_file

    if policy and not gate:
        raise typer.BadParameter("--policy says by what --gate FILE has judged: give both")
    report = read_report_file(gate) if gate else None
    inputs = read_policy(policy).digests() if policy else None
    move = Move(by=by, reason=reason, gate=report, without_gate=without_gate, inputs=inputs)
    _moved("promote", which, move, registry, keys, as_json=as_json)


def rollback(
    task: Annotated[str, typer.Argument(metavar="TASK", help="As `list` shows it.")],
    language: Annotated[str, typer.Argument(metavar="LANGUAGE", help="As `list` shows it.")],
    by: By,
    reason: Reason,
    registry: Place = PLACE,
    keys: Keys = _KEYS,
    as_json: Json = False,
) -> None:
    """Bring back the adapter that was in production before the one that is.

    Example: presspool adapters rollback classification en --by "A. Editor" --reason "complaints"
    """
    from presspool.common.base.errors import InputError
    from presspool.server.registry.adapter_registry import Move

    opened = _opened(registry)
    one = opened.shelves.before((task, language))
    if one is None:
        raise InputError(
            "nothing to roll back to",
            where=f"{task} {language}",
            expected="a task and language that have had two adapters in production",
            advice="presspool adapters list",
        )
    found = opened.move("rollback", one, _keys(opened, keys), Move(by=by, reason=reason))
    _say(opened, found, as_json=as_json)


def retire(
    which: Which,
    by: By,
    reason: Reason,
    keys: Keys = _KEYS,
    registry: Place = PLACE,
    as_json: Json = False,
) -> None:
    """Retire an adapter for good: nothing brings it back into production.

    Example: presspool adapters retire topics@1 --by "A. Editor" --reason "a reader was erased"
    """
    from presspool.server.registry.adapter_registry import Move

    _moved("retire", which, Move(by=by, reason=reason), registry, keys, as_json=as_json)


def diff(which: Which, other: Which, registry: Place = PLACE, as_json: Json = False) -> None:
    """Say where two adapters differ: contract, figures, card.

    Example: presspool adapters diff topics@1 topics@2
    """
    from presspool.server.registry.registry_verdict import differences

    opened = _opened(registry)
    one, two = opened.shelves.find(which), opened.shelves.find(other)
    rows = differences(opened, one, two)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        out.print(one_line(f"{row['field']}: {row[one.title]} → {row[two.title]}"))
    if not rows:
        out.print("no difference")


def verify(
    which: Annotated[
        str | None, typer.Argument(metavar="[WHICH]", help="An adapter; default all.")
    ] = None,
    known: Annotated[
        Path | None,
        typer.Option(help="A copy of registry.json that you got from its operator."),
    ] = None,
    head: Annotated[Path | None, typer.Option(help="A head of the log that somebody kept.")] = None,
    registry: Place = PLACE,
    as_json: Json = False,
) -> None:
    """Check signature, card, lineage and log of an adapter, offline, and say what holds.

    Of all adapters, it also names files that the log does not name.

    Example: presspool adapters verify topics@1 --known registry.json
    """
    from presspool.server.registry.registry_verdict import require_known, verified
    from presspool.server.registry.unnamed_files import unnamed

    opened = _opened(registry)
    require_known(opened, about=known, head=head)
    chosen = [opened.shelves.find(which)] if which else list(opened.shelves.entries.values())
    found = []
    with progress("checking", total=len(chosen)) as advance:
        for one in chosen:
            found.append(verified(opened, one))
            advance()
    left = [] if which else unnamed(opened)
    if as_json:
        rows = [_row(one.one) | {"sentence": one.sentence} for one in found]
        kept = opened.log.head.encode().decode() if opened.log.head else None
        said = {"key_known": bool(known), "head": kept, "adapters": rows, "unnamed": left}
        print_json(said)
        return
    for verdict in found:
        out.print(one_line(verdict.sentence))
    for name in left:
        err.print(f"{name}: named by nothing; presspool adapters gc removes it")
    whose = "the key you brought" if known else "its own key, which nobody here vouches for"
    err.print(f"checked with {whose}")


def gc(registry: Place = PLACE, keys: Keys = _KEYS, as_json: Json = False) -> None:
    """Remove files that the log does not name, as an `add` that was broken off leaves them.

    Example: presspool adapters gc
    """
    from presspool.server.registry.unnamed_files import remove_unnamed

    opened = _opened(registry)
    removed = remove_unnamed(opened, _keys(opened, keys))
    if as_json:
        print_json({"removed": removed})
    else:
        out.print("\n".join([*removed, f"{len(removed)} files removed"]))


def _opened(registry: str) -> AdapterRegistry:
    from presspool.server.registry.adapter_registry import open_registry

    return open_registry(registry)


def _keys(opened: AdapterRegistry, keys: Path) -> RegistryKeys:
    from presspool.server.registry.registry_keys import RegistryKeys

    return RegistryKeys.read(keys, name=opened.about.name)


def _moved(
    action: Action, which: str, move: Any, registry: str, keys: Path, *, as_json: bool
) -> None:
    opened = _opened(registry)
    one = opened.move(action, opened.shelves.find(which), _keys(opened, keys), move)
    _say(opened, one, as_json=as_json)


def _say(opened: AdapterRegistry, one: Shelved, *, as_json: bool) -> None:
    """What was done, and what it replaced."""
    last = one.records[-1]
    gone = opened.shelves.entries[last.replaces].title if last.replaces else None
    if as_json:
        print_json(_row(one) | {"replaced": gone})
        return
    out.print(f"{one.title} is {one.stage}" + (f", {gone} retired" if gone else ""))


def _row(one: Shelved) -> dict[str, Any]:
    return {
        "title": one.title,
        "id": one.entry,
        "stage": one.stage,
        "task": one.slot[0],
        "language": one.slot[1],
        "overrides": [override.sentence for override in one.overrides],
    }
