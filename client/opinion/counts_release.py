"""A query's answer, from the policy's word to the file that may be shown: one way, in this order.

1. the policy allows it; 2. the snapshot has days and labels; 3. *reserve*; 4. count, without erased
readers; 5. discrete Gaussian noise of the outlet's own randomness on every count; 6. a draft on the
disk; 7. *release-intent* of the draft's bytes, *settle*; 8. the draft gets its name.

Invariants:
    * Nothing of the data decides whether there is an answer: after 3 no record can stop it.
    * An answer that is bound is only ever the bytes that were bound. A draft that was not bound is
      removed before another draw of noise is made, and was never shown.
    * Whole numbers get whole noise: there is no rounding to tell anything.

Example: ``answer(Path("."), read_query(Path("mood.toml")))`` is the path of the answer.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import pyarrow as pa

from presspool.client.agent import home as homes
from presspool.client.agent.moving import require_paid
from presspool.client.consent.count_budget import (
    answered,
    bind_counts,
    finish_counts,
    require_allowed,
    reserve_counts,
)
from presspool.client.data.care.import_care import DAY
from presspool.client.data.snapshots import Erased, current, erased_in, require_declared
from presspool.client.data.suppression_list import SuppressionList
from presspool.client.engine.discrete_gaussian import discrete_gaussian
from presspool.client.engine.randomness import SecureRandom
from presspool.client.opinion.opinion_query import OpinionQuery
from presspool.client.opinion.reader_counts import reader_counts
from presspool.client.witnessing.witness_folder import WitnessFolder
from presspool.common.accounting import events, pooled_cost
from presspool.common.base.errors import FolderError, InputError, LedgerError, PressPoolError
from presspool.common.base.files import private_folder, replace_file
from presspool.common.base.locks import locked
from presspool.common.data.decoders import Tally
from presspool.common.data.table_refusals import column_names
from presspool.common.data.tables import batches
from presspool.common.ledger import entries
from presspool.common.ledger.ledger_state import Reservation
from presspool.common.ledger.store import Ledger
from presspool.common.released.counts_document import CountsDocument

log = logging.getLogger(__name__)

FOLDER = "counts"  # in the outlet's home
COLUMNS = ("reader", "label", DAY)
_BUSY = FolderError("another count is going on", advice="wait for it, then try again")


def answer(home: Path, query: OpinionQuery) -> Path:
    """Answer a query once; asked again, the same file.

    Args:
        home: the outlet's.
        query: what is counted.

    Raises:
        InputError: the policy forbids it; no days in the snapshot; a name that is over.
        BudgetError: it does not fit.
        DataError: no snapshot, or one of other settings.
        FolderError: another count is going on.
    """
    policy = homes.policy_in(home)
    require_allowed(policy.counts, query.share)
    require_paid(home)
    folder = private_folder(home / FOLDER)
    with locked(folder / "lock", busy=_BUSY), homes.ledger_in(home) as ledger:
        if digest := answered(ledger, query.run):
            finish_counts(ledger, query.run)
            return _named(folder, query.name, digest)
        for draft in folder.glob(f"{query.name}.*.draft"):
            draft.unlink()
        _require_days(home, ledger)
        suppression = homes.suppression_list_in(home)
        erased_in(suppression)  # raises where nobody can be told apart: before anything is paid
        held = reserve_counts(
            ledger,
            policy=policy,
            run=query.run,
            event=_event(ledger, query),
            dataset=homes.settings_in(home).dataset,
            head=WitnessFolder.at(home).own_head(),
        )
        rows = _rows(homes.snapshot_in(home), suppression, query)
        data = noised(rows, query, held=held, ledger=ledger, random=SecureRandom()).encode()
        draft = folder / f"{query.name}.{hashlib.sha256(data).hexdigest()}.draft"
        replace_file(draft, data)
        return _named(folder, query.name, bind_counts(ledger, held, data))


def noised(
    rows: pa.Table,
    query: OpinionQuery,
    *,
    held: Reservation,
    ledger: Ledger,
    random: SecureRandom,
) -> CountsDocument:
    """The answer, with noise as the reservation's event says it.

    Args:
        rows: as `reader_counts` takes them.
        query: what is counted.
        held: what is paid for.
        ledger: says order, δ and claim.
        random: the outlet's own.
    """
    event = held.entry.event
    assert isinstance(event, events.SelfComposed)
    assert isinstance(event.event, events.Gaussian)  # the ledger's rule
    sigma, counts = event.event.noise_multiplier, reader_counts(rows, query)
    noise = discrete_gaussian(counts.size, sigma, random).reshape(counts.shape)
    opened, book = ledger.book.opened, ledger.book
    return CountsDocument(
        origin=opened.origin,
        name=query.name,
        labels=query.labels,
        first=query.first,
        by=query.by,
        counts=tuple(map(tuple, (counts + noise).tolist())),
        sigma=sigma,
        entry=held.entry.seq,
        epsilon=pooled_cost.best_of(event, delta=opened.delta).epsilon,
        delta=opened.delta,
        claim=book.claim,
        pooled_runs=_pooled_runs(ledger),
    )


def _pooled_runs(ledger: Ledger) -> int:
    """Runs so far whose claim leans on other outlets."""
    found = map(entries.parse_entry, ledger.bodies(0, ledger.book.size))
    runs = [entry for entry in found if isinstance(entry, entries.Reserve)]
    return sum(pooled_cost.is_pooled(run.event) for run in runs)


def _event(ledger: Ledger, query: OpinionQuery) -> events.SelfComposed:
    book = ledger.refresh()
    room = book.room(book.caps.epsilon_max) * events.UNIT
    try:
        return query.event(order=book.opened.order, room=room)
    except LedgerError as error:
        raise InputError(error.what, where="share", got=query.share) from None


def _require_days(home: Path, ledger: Ledger) -> None:
    """Raise where the snapshot is not of these settings, or has no days or labels."""
    snapshot, settings = homes.snapshot_in(home), homes.settings_in(home)
    require_declared(current(snapshot, settings), snapshot, ledger.book.frozen)
    missing = sorted({*COLUMNS} - {*column_names(snapshot)})
    if missing:
        raise InputError(
            "the snapshot has no column to count by",
            where=str(snapshot),
            expected=", ".join(COLUMNS),
            got="no " + ", ".join(missing),
            advice="name the column of days in outlet.toml ([care] day), then: "
            "presspool outlet import",
        )


def _rows(snapshot: Path, suppression: SuppressionList, query: OpinionQuery) -> pa.Table:
    """The snapshot's records but those of erased readers, who could be counted noted; or none."""
    none = pa.table({name: pa.array([], pa.large_string()) for name in COLUMNS})
    try:
        while True:  # again only where somebody is erased meanwhile
            excluded, gone = suppression.excluded(), erased_in(suppression)
            rows = pa.concat_tables([none, *_batches(snapshot, gone)])
            ids = rows["reader"].unique().drop_null().to_pylist()
            suppression.note(query.run, suppression.tags(ids) if ids else [])
            if suppression.excluded() == excluded:
                return rows
    except (PressPoolError, OSError, pa.ArrowException) as error:
        log.error("NOBODY IS COUNTED, pure noise is the answer, and it is paid for: %s", error)
        return none


def _batches(snapshot: Path, gone: Erased | None) -> list[pa.Table]:
    made = []
    for batch in batches(snapshot, COLUMNS, Tally()):
        table = pa.table([values for values, _ in batch], names=COLUMNS)
        made.append(table if gone is None else table.filter(pa.array(~gone(batch[0][0]))))
    return made


def _named(folder: Path, name: str, digest: str) -> Path:
    """The answer under its name: these bytes, which were bound, and no others."""
    path = folder / f"{name}.json"
    draft = folder / f"{name}.{digest.removeprefix('sha256:')}.draft"
    if draft.exists():
        draft.replace(path)
    if path.exists() and "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest() == digest:
        return path
    raise FolderError(
        "the answer that was bound is not here",
        where=str(path),
        expected=digest,
        advice="put it back from where it was copied to; no other answer is given to this name",
    )
