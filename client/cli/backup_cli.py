"""`presspool outlet backup`, `restore` and `budget restored`: a home as one file, and back.

Example: `presspool outlet backup outlet.backup`, then on the new machine `presspool outlet restore
outlet.backup --home /var/lib/presspool` and `presspool outlet budget restored --charge moved`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from presspool.common.base.console import err, out, print_json

Home = Annotated[Path, typer.Option(help="This outlet's folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file (mode 0600).")],
    home: Home = Path(),
    as_json: Json = False,
) -> None:
    """Write this outlet's settings, policy, keys, approvals and ledger to one file.

    The agent may be running. The file holds the private keys: keep it as you keep them. Readers'
    data and unfinished work (work/) are not in it.

    Example: presspool outlet backup /mnt/offline/outlet.backup
    """
    from presspool.client.agent import moving

    moving.backup(home, file)
    if as_json:
        print_json({"file": str(file), "bytes": file.stat().st_size})
    else:
        out.print(f"wrote {file}: it holds the outlet's private keys")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `outlet backup` wrote.")],
    home: Annotated[Path, typer.Option(help="The new folder, where nothing is yet.")],
    as_json: Json = False,
) -> None:
    """Make an outlet's folder from a backup; its ledger then has to pay for what it cannot know.

    Example: presspool outlet restore /mnt/offline/outlet.backup --home /var/lib/presspool
    """
    from presspool.client.agent import moving

    moving.restore(file, home)
    if as_json:
        print_json({"home": str(home)})
        return
    out.print(f"made {home}")
    err.print(
        "nothing is trained here before: presspool outlet budget restored --charge moved "
        "(nothing ran since the backup), period or lifetime\n"
        "readers who were erased since the backup have to be erased again: presspool outlet erase\n"
        "see that the folder that it came from is never run again"
    )


def restored(
    charge: Annotated[
        str,
        typer.Option(
            help="moved: nothing ran since the copy, no charge. period: what the caps of all "
            "periods since the copy had left. lifetime: all that is left."
        ),
    ],
    home: Home = Path(),
    as_json: Json = False,
) -> None:
    """Let a restored ledger go on, once it has paid for what it cannot know.

    The coordinator is asked for the newest head of this ledger. The hashes of entries that are lost
    are kept, your word and the charge are an entry that every audit shows, and runs that were open
    in the copy are over (not with moved).

    Example: presspool outlet budget restored --charge period
    """
    from presspool.client.agent import moving
    from presspool.client.identity.dialling import reach
    from presspool.client.identity.identity import Identity
    from presspool.client.witnessing.witness_client import WitnessClient
    from presspool.common.accounting.events import UNIT
    from presspool.common.base.errors import InputError
    from presspool.common.ledger.log import utc_today
    from presspool.common.ledger.restored_entries import BASES

    basis = next((known for known in BASES if known == charge), None)
    if basis is None:
        raise InputError(
            "what to charge", where="--charge", expected=", ".join(BASES), got=ascii(charge)
        )
    me = Identity.read(home)
    link = WitnessClient(me.address, lambda: reach(me))
    try:
        entry = moving.go_on(home, basis, link=link, today=utc_today())
    finally:
        link.close()
    nats = entry.charge * UNIT
    if as_json:
        print_json({"lost": entry.lost, "basis": basis, "charge_nats": nats, "entry": entry.seq})
        return
    out.print(
        f"the ledger goes on: {entry.lost} entries are lost, {nats:.4f} nats are charged for them"
    )


def moved(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What `coordinator move --out` wrote.")
    ],
    home: Home = Path(),
    as_json: Json = False,
) -> None:
    """Take the coordinator's signed word of where it is dialled now.

    One that is older than what is known, or another one of the same move, is exit code 2. An
    outlet that reaches the coordinator at any of its addresses learns it by itself.

    Example: presspool outlet moved moved.statement
    """
    from presspool.client.identity.identity import Identity
    from presspool.common.base.errors import EvidenceError, InputError
    from presspool.common.base.files import read_file
    from presspool.common.wire.addresses import LARGEST

    try:
        identity = Identity.read(home).told(read_file(file, most=LARGEST))
    except EvidenceError as error:
        raise InputError(
            error.what,
            where=str(file),
            expected=error.expected,
            got=error.got,
            advice="ask the coordinator's operator",
        ) from None
    if as_json:
        print_json({"addresses": list(identity.addresses), "moves": identity.moves})
    else:
        out.print(f"the coordinator is dialled at {', '.join(identity.addresses)}")
