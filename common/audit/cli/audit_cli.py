"""`presspool audit …`: what a compliance team types, trusting nobody who gave it the files.

Invariants:
    * No torch, Flower or transformers: an auditor's machine needs none of them.
    * Exit codes: 0 the evidence holds, 1 it does not (the first bad entry is named), 2 a file
      that cannot be read or an option that makes no sense.
    * With `--json` a failed check prints a document too; its exit code stays 1.

Example: `presspool audit verify outlet.export --head kept-by-a-peer.checkpoint`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from presspool.common.base.console import out, print_json, start_logging

Export = Annotated[Path, typer.Argument(help="A ledger's exported file.")]
Key = Annotated[
    str | None,
    typer.Option(metavar="KEY", help="The ledger's first verifier key, got from its outlet."),
]
Heads = Annotated[
    list[Path] | None,
    typer.Option("--head", help="A checkpoint of this ledger that somebody kept; repeatable."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def verify(
    export: Export,
    key: Key = None,
    head: Heads = None,
    snapshot: Annotated[
        Path | None,
        typer.Option(help="The outlet's snapshot, on its own machine: opens the entry about it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check an export: structure, hashes, rules, signatures and cosignatures.

    Example: presspool audit verify outlet.export --head kept-by-a-peer.checkpoint

    Example: presspool audit verify outlet.export --snapshot snapshot.parquet
    """
    from presspool.common.audit.evidence import audit_console, frozen_data_verdict, verdicts
    from presspool.common.ledger import verification
    from presspool.common.ledger.history import History

    start_logging(quiet=as_json)
    known = audit_console.known(key, head or [])
    with (
        _failures_as_json(as_json),
        audit_console.percents("verifying") as moved,
        audit_console.reading(export, moved) as stream,
    ):
        history = None if snapshot is None else History()
        found = verification.verify(stream, key=known.key, heads=known.heads, book=history)
        data = frozen_data_verdict.judged(snapshot, history.data) if snapshot and history else None
    if as_json:
        print_json(verdicts.verified_json(found) | ({"snapshot": data} if data else {}))
    else:
        verdicts.show_verified(found, out)
        frozen_data_verdict.show(data, out)


def recompute(export: Export, key: Key = None, head: Heads = None, as_json: Json = False) -> None:
    """Check an export, then compute every ε in it again, by two accountants.

    Example: presspool audit recompute outlet.export
    """
    from presspool.common.audit.evidence import audit_console, verdicts
    from presspool.common.ledger import recompute as again

    start_logging(quiet=as_json)
    known = audit_console.known(key, head or [])
    with (
        _failures_as_json(as_json),
        audit_console.percents("recomputing") as moved,
        audit_console.reading(export) as stream,
    ):
        found = again.recompute(stream, key=known.key, heads=known.heads, watch=moved)
    if as_json:
        print_json(verdicts.recomputed_json(found))
    else:
        verdicts.show_recomputed(found, out)
    verdicts.require_agreement(found)


def export_ledger(
    ledger: Annotated[Path, typer.Argument(help="The outlet's ledger.")],
    out_file: Annotated[Path, typer.Option("--out", help="New file to write.")],
    signing_key: Annotated[
        Path | None,
        typer.Option(
            help="PEM file of the ledger's Ed25519 key; without it, entries after the last signed "
            "head are left out."
        ),
    ] = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Verifier key whose cosignatures to include; repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write one file with which a stranger can check the whole ledger.

    Example: presspool audit export ledger.db --out outlet.export --signing-key identity/log.key
    """
    from presspool.common.audit.evidence import audit_console, verdicts
    from presspool.common.base.files import replacing
    from presspool.common.ledger.export import export

    start_logging(quiet=as_json)
    audit_console.require_new(out_file, "--out")
    witnesses = [audit_console.verifier_key(text, "--witness") for text in witness or []]
    with audit_console.opened(ledger) as book:
        signer = audit_console.signer(signing_key, book) if signing_key else None
        with replacing(out_file) as stream:
            head = export(book, stream, signer=signer, witnesses=witnesses)
        state, left_out = book.book, book.book.size - head.size
    if as_json:
        more = {"left_out": left_out, "non_private": state.unclaimed}
        print_json({**verdicts.head_json(head), **more})
    else:
        verdicts.show_exported(out_file, head, state, left_out, out)


def fork(
    proof: Annotated[Path, typer.Argument(help="A fork proof, or an outlet's contradiction.json.")],
    key: Annotated[
        str, typer.Option(metavar="KEY", help="The accused log's verifier key, got from elsewhere.")
    ],
    as_json: Json = False,
) -> None:
    """Check a proof that a log signed two stories: a fork, or an outlet's contradiction.json.

    Example: presspool audit fork pool.fork --key example.org/pool+7e0c4b1a+AVn3...
    """
    from presspool.common.audit.evidence import audit_console, verdicts

    log = audit_console.verifier_key(key, "--key")
    with _failures_as_json(as_json), audit_console.reading(proof) as stream:
        sentence = audit_console.convicted(stream, log)
    if as_json:
        print_json({"holds": True, "sentence": sentence})
    else:
        verdicts.show_convicted(sentence, out)


@contextmanager
def _failures_as_json(as_json: bool) -> Iterator[None]:
    """Evidence that does not hold is a result as well: print it before the error goes on."""
    from presspool.common.base.errors import EvidenceError

    try:
        yield
    except EvidenceError as error:
        if as_json:
            print_json({"holds": False, "first_bad_entry": error.entry, "error": str(error)})
        raise
