"""Today's bytes, held still: adapters, contracts, ledger exports, and what an auditor prints.

Everything goes through the command line, in one process of its own, and is compared with files:

* `files/given/` is input for ever: a base model, run files and data; contracts, ledger exports and
  a run folder as some version wrote them. Outlets hold such files, so every later version must
  read them, keep their digests and print the same about them.
* `files/made/` is what comes out: adapters, results, an auditor's documents.

Invariants:
    * No test writes here; `python -m tests.golden.write` does, for a change that is meant, and
      never replaces what lies in `given/`.
    * Floats do not depend on the processor. Libraries choose kernels by what it can do, and those
      round differently; so `PLAIN_FLOATS` holds every one of them to one old instruction set and
      to one thread. It must be set before they load, hence the process of its own.
    * Other versions of torch or NumPy may round differently still: `constraints.txt` pins them. A
      mismatch says how large it is, which tells a rounding from a change of the algorithm.
    * `VOLATILE` names all that is left out: what a clock, the installed packages and the text of
      the source decide.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

import numpy as np
import pytest
from safetensors.numpy import load
from tests.conftest import REPOSITORY
from tests.fakes.made_ledgers import close_period, rotate_key

import presspool
from presspool.common.accounting import events
from presspool.common.accounting.filter import Caps
from presspool.common.contract.contract import EXAMPLE, parse_contract, read_canonical
from presspool.common.ledger import entries
from presspool.common.ledger.store import Ledger
from presspool.common.models.adapters import digest
from presspool.common.transparency import notes

Body = dict[str, Any]

FILES = Path(__file__).parent / "files"
GIVEN, MADE = FILES / "given", FILES / "made"
RUNS = ("ffa", "fedit", "head")
OUTLETS = ("north-post", "south-echo")
WITNESS = notes.Signer.load("example.org/witness", bytes([9]) * 32, kind=notes.COSIGNATURE)
# In a run's result `seconds` stands in each round as well; `code` is the package's own hash.
VOLATILE = {"result": ("seconds", "versions"), "card": ("code",)}

SIMD = np.show_config(mode="dicts")["SIMD Extensions"]
PLAIN_FLOATS = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Prescott",
    "NPY_DISABLE_CPU_FEATURES": " ".join(SIMD["found"]),
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX2,-FMA,-FMA4",  # exp, log, sin and cos
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
}
SURROUNDINGS = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "PYTHONUTF8": "1",
    "PYTHONPATH": str(Path(presspool.__file__).parents[1]),  # the code that this process tests
}

# Types commands into one process, which loads torch once and is the simulation's worker as well:
# other tests see that the number of processes changes no byte. A zero byte ends each output.
TYPIST = """
import logging, shlex, sys
from presspool.simulations.grids import local_grid

def here(_):
    local_grid.prepare_worker(logging.WARNING)
    return local_grid._ThisProcess()

local_grid._pool = here

from presspool.cli import main
for line in sys.argv[1:]:
    sys.argv = ["presspool", *shlex.split(line)]
    try:
        main()
    except SystemExit as end:
        if end.code:
            sys.exit(f"{line}: exit code {end.code}")
    print(end="\\0", flush=True)
"""

EXPORTS = [f"{outlet}.export" for outlet in OUTLETS]
EXPORTING = {
    f"export-{outlet}": f"audit export {outlet}.db --out out/{outlet}.export --json --witness"
    f" {WITNESS.key.text}"
    for outlet in OUTLETS
}
COMMANDS = {
    **{
        f"run-{name}": f"simulate {name}.toml --out out/{name} --deterministic 7 --json"
        for name in RUNS
    },
    "run-first-2": "simulate first-2.toml --out out/first-2 --prepare-only --json",
    **EXPORTING,
    **{f"verify-{outlet}": f"audit verify {outlet}.export --json" for outlet in OUTLETS},
    **{f"recompute-{outlet}": f"audit recompute {outlet}.export --json" for outlet in OUTLETS},
    "report": f"audit report {' '.join(EXPORTS)} run out/ffa --fields fields.toml --format json",
    "card": f"audit card run --ledger {' --ledger '.join(EXPORTS)} --fields fields.toml --json",
}
# An entry that no ledger of a real outlet has: its runs and these never share one.
# Kinds that no ledger of `given` has: canonical bytes, which a leaf hash covers.
RARE = (
    '{"day":"2026-01-05","kind":"non-private","reason":"reproducible-noise","seq":1}',
    '{"day":"2026-11-28","kind":"lost","leaf":"' + "ab" * 32 + '","seq":8}',
    '{"basis":"lifetime","charge":5,"day":"2026-11-28","kind":"restored","lost":1,"periods":[],'
    '"seq":9}',
    '{"commitment":"sha256:' + "ab" * 32 + '","consent":null,"day":"2026-11-28",'
    '"kind":"data-frozen","most_records":50,"query":"sha256:' + "cd" * 32 + '","seq":2,'
    '"source":"duckdb","window":["2026-01-01","2026-07-01"]}',
)
PRINTED = [name for name in COMMANDS if not name.startswith("run-")]

STATED = 1.5148663356894634  # ε of the contract in `given/run`
BODIES = ("every-key", "defaults", "unprotected")


def type_commands(folder: Path, commands: Mapping[str, str]) -> dict[str, str]:
    """Copy `given/` into a folder and type commands there: name to standard output.

    The folder then also holds what the commands read and nobody stores: the outlets' ledgers.
    """
    shutil.copytree(GIVEN, folder, dirs_exist_ok=True)
    shutil.copytree(REPOSITORY / "examples", folder / "examples")  # the data of `first-2.toml`
    (folder / "out").mkdir()
    for outlet in OUTLETS:
        live(folder / f"{outlet}.db")
    done = subprocess.run(
        [sys.executable, "-c", TYPIST, *commands.values()],
        cwd=folder,
        env=os.environ | SURROUNDINGS | PLAIN_FLOATS,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(commands, done.stdout.split("\0")[:-1], strict=True))


def steady(name: str, printed: str) -> str:
    """What a command printed or wrote, without what is volatile."""
    kind, _, _ = name.partition("-")
    if kind not in VOLATILE:
        return printed
    body = json.loads(printed)
    places = (body, *body["rounds"]) if kind == "result" else (body["governance"]["hashes"],)
    for table in places:
        for key in VOLATILE[kind]:
            table.pop(key, None)
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("the golden floats were computed on Linux on x86-64")
    return tmp_path_factory.mktemp("golden")


@pytest.fixture(scope="module")
def printed(folder: Path) -> dict[str, str]:
    return type_commands(folder, COMMANDS)


# --- Training ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RUNS)
def test_a_run_trains_the_same_adapter(folder: Path, printed: dict[str, str], name: str) -> None:
    got = (folder / "out" / name / "adapter" / "adapter_model.safetensors").read_bytes()
    expected = (MADE / f"{name}.safetensors").read_bytes()
    assert got == expected, difference(got, expected)
    state = load(got)
    assert digest(state) == json.loads((MADE / "digests.json").read_text())[name]


def difference(got: bytes, expected: bytes) -> str:
    """What differs between two adapters, in one line."""
    ours, theirs = load(got), load(expected)
    if {k: v.shape for k, v in ours.items()} != {k: v.shape for k, v in theirs.items()}:
        return f"other arrays: {sorted(ours)}, not {sorted(theirs)}"
    gaps = {key: float(np.abs(ours[key] - theirs[key]).max()) for key in ours}
    worst = max(gaps, key=gaps.__getitem__)
    size = float(np.abs(theirs[worst]).max())
    return f"largest difference {gaps[worst]:.3g} in {worst}, whose largest number is {size:.3g}"


def test_the_message_tells_how_far_two_adapters_are_apart() -> None:
    ffa, fedit = ((MADE / f"{name}.safetensors").read_bytes() for name in ("ffa", "fedit"))
    assert "largest difference 0 in" in difference(ffa, ffa)
    assert "other arrays" in difference(ffa, fedit)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_writes_the_same_result(folder: Path, printed: dict[str, str], name: str) -> None:
    written = (folder / "out" / name / "result.json").read_text(encoding="utf-8")
    assert json.loads(printed[f"run-{name}"]) == {"folder": f"out/{name}", **json.loads(written)}
    assert steady(f"result-{name}", written) == (MADE / f"result-{name}.json").read_text("utf-8")


@pytest.mark.parametrize("name", [*RUNS, "first-2"])
def test_a_run_file_freezes_to_the_same_bytes(
    folder: Path, printed: dict[str, str], name: str
) -> None:
    """As they were before there were manifests, but for that one key."""
    frozen = json.loads((folder / "out" / name / "contract.json").read_bytes())
    manifest = frozen["model"].pop("manifest")
    known = (GIVEN / "contracts" / f"{name}.json").read_bytes()
    assert parse_contract(frozen).canonical() == known
    if frozen["model"]["id"] == "base":
        files = sorted((GIVEN / "base").iterdir())
        sums = [f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n" for file in files]
        assert manifest == "sha256:" + hashlib.sha256("".join(sums).encode()).hexdigest()


# --- Contracts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*RUNS, "first", "first-2", *BODIES])
def test_an_old_contract_is_read_and_keeps_its_digest(name: str) -> None:
    text = (GIVEN / "contracts" / f"{name}.json").read_bytes()
    expected = json.loads((GIVEN / "contracts" / "digests.json").read_text())[name]
    contract = parse_contract(json.loads(text))
    assert (contract.canonical(), contract.digest) == (text, expected)
    if contract.frozen:
        assert read_canonical(text, digest=expected) == contract


@pytest.mark.parametrize("name", BODIES)
def test_a_body_makes_the_same_contract(name: str) -> None:
    stored = (GIVEN / "contracts" / f"{name}.json").read_bytes()
    """One that does not say its schema was of the first when these were written."""
    assert parse_contract({"schema": 1, **body_of(name)}).canonical() == stored


def body_of(name: str) -> Body:
    """A contract's body as somebody may write it, keys in any order and defaults left out."""
    body: Body = json.loads((GIVEN / "bodies" / f"{name}.json").read_text(encoding="utf-8"))
    return body


def test_every_key_of_a_contract_is_used() -> None:
    def keys(body: Body) -> set[str]:
        inner = (keys(table) for table in body.values() if isinstance(table, dict))
        return set(body).union(*inner)

    written = body_of("every-key")
    assert keys(written) == keys(parse_contract(written).body())


def test_the_docstring_s_example_is_the_body_with_defaults() -> None:
    assert body_of("defaults") == json.loads(EXAMPLE)


# --- Ledgers -------------------------------------------------------------------------------------


def live(path: Path) -> None:
    """Write an outlet's ledger: between them, the two outlets meet every kind of entry."""
    outlet = path.stem
    contract = parse_contract(json.loads((GIVEN / "run" / "contract.json").read_text("utf-8")))
    old, new = (
        notes.Signer.load(f"presspool/{outlet}", bytes([n, ord(outlet[0])]) * 16, kind=notes.NOTE)
        for n in (1, 2)
    )
    days, ids = (date(2026, 1, 5) + timedelta(weeks=n) for n in count()), count(1)
    made: Body = {
        "signer": old,
        "unit": "reader",
        "order": 6,
        "delta": 1e-5,
        "caps": Caps(epsilon_max=8.0, period=5.0, dataset=7.5),
        "today": lambda: next(days),
    }
    with (
        patch.object(secrets, "token_hex", lambda _: f"{next(ids):032x}"),
        Ledger.create(path, **made) as ledger,
    ):
        dataset = entries.new_id()
        job = events.PoissonSampled(rate=0.05, event=events.Gaussian(noise_multiplier=1.0))
        first = ledger.reserve(
            run="sha256:" + "b" * 64,
            unit="reader",
            period="2026-Q1",
            datasets=[dataset, entries.new_id()],
            head=None,
            event=events.SelfComposed(event=job, count=60),
        )
        ledger.receive(run=first.run, round_number=1, digest="sha256:" + "4" * 64)
        ledger.intend(first.reservation, round_number=1, steps=30, digest="sha256:" + "3" * 64)
        if outlet == "south-echo":  # north-post crashed, and stays charged
            ledger.give_back(first.reservation, kept=30)
            ledger.settle(first.reservation)
            close_period(ledger, "2026-Q1")
        ledger.refuse(run="sha256:" + "e" * 64, reason="policy-noise")
        ledger.checkpoint(old)
        rotate_key(ledger, old, new.key)
        plan = contract.plan
        paid = ledger.reserve(
            run=contract.digest,
            unit=plan.unit,
            period="2026-Q2",
            datasets=[dataset],
            head=None,
            event=events.from_dp(plan.event()),
            stated=entries.Stated(delta=plan.delta, epsilon=STATED, version="0.6.0"),
        )
        for number in (1, 2):
            sent = f"sha256:{number:064x}"
            ledger.receive(run=contract.digest, round_number=number, digest=sent)
            ledger.intend(paid.reservation, round_number=number, steps=2 * number, digest=sent)
        ledger.settle(paid.reservation)
        ledger.change_policy(Caps(epsilon_max=9.0, period=6.0, dataset=8.0))
        note = ledger.checkpoint(new)
        signed = notes.Note(text=note.text).signed(WITNESS.sign(note.text, time=5))
        ledger.cosign(signed, witnesses=[WITNESS.key])


@pytest.mark.parametrize("outlet", OUTLETS)
def test_a_ledger_is_exported_to_the_same_bytes(
    folder: Path, printed: dict[str, str], outlet: str
) -> None:
    stored = (GIVEN / f"{outlet}.export").read_bytes()
    assert (folder / "out" / f"{outlet}.export").read_bytes() == stored


def test_every_kind_of_entry_is_in_an_export() -> None:
    text = "".join([*((GIVEN / f"{outlet}.export").read_text() for outlet in OUTLETS), *RARE])
    for rare in RARE:
        assert entries.parse_entry(rare.encode()).canonical() == rare.encode()
    kinds = {kind.model_fields["kind"].default for kind in get_args(entries.Entry)}
    assert {kind for kind in kinds if f'"kind":"{kind}"' not in text} == set()


@pytest.mark.parametrize("name", PRINTED)
def test_an_auditor_is_told_the_same(printed: dict[str, str], name: str) -> None:
    assert steady(name, printed[name]) == (MADE / f"{name}.json").read_text(encoding="utf-8")
