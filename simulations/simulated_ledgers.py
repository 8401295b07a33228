"""Ledgers for simulated outlets, so that reports and cards can be tried on one machine.

A simulated outlet trains without a budget unless it is given one. Here each gets what a real one
has, in a folder of its own beside its settings: a policy that takes this very run, a person's
approval of it (the simulation's), a signing key, a ledger that would hold the run twice, and a
snapshot of its data.

Invariant: only runs that a ledger can price; what is charged is what outlets' own code reserves.

Example: ``give_ledgers(contract, prepared.outlets)`` before a run, `export_ledgers` after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

from presspool.client.agent.home import LEDGER, LOG_KEY, POLICY
from presspool.client.consent.approvals import FOLDER, Approvals
from presspool.client.data.snapshots import SNAPSHOT, freeze
from presspool.client.identity.settings import read_settings
from presspool.common.accounting.filter import Caps, propose
from presspool.common.base.errors import InputError
from presspool.common.base.files import private_folder, replace_file, replacing
from presspool.common.base.toml_values import toml_value
from presspool.common.contract.contract import Contract
from presspool.common.contract.doors import task_of
from presspool.common.ledger.export import export
from presspool.common.ledger.log import utc_today
from presspool.common.ledger.store import Ledger
from presspool.common.models.base_model_sources import located
from presspool.common.pki.keys import SigningKey
from presspool.common.transparency import notes

APPROVER = "the simulation"
EXPORTS = "ledgers"  # in the run folder
RUNS = 2  # like this one, in the ledger's lifetime

POLICY_TOML = """\
# Made for one simulated run. A real outlet's people decide: presspool outlet policy example
max_epsilon_per_run = {epsilon!r}
max_delta = {delta!r}
min_noise_multiplier = {sigma!r}
max_steps = {steps}
max_rounds = {rounds}
tasks = ["{task}"]
trust = ["{trust}"]
min_outlets = {outlets}
lora_targets = {targets}
max_adapter_scale = {scale!r}
max_records_per_reader = {records}
max_record_length = {length}

[pooled]  # where the run shares its noise
min_colluders_share = 0.0
max_dropouts_share = 0.99
min_own_peers = 0
max_epsilon_alone = {alone!r}

[witnesses]
required = false  # nobody else is there

[[base_models]]
name = {model}
weights = "{weights}"
tokenizer = "{tokenizer}"
manifest = "{manifest}"
folder = {folder}
"""


def give_ledgers(contract: Contract, outlets: Sequence[Path]) -> None:
    """Make policy, approval, key, ledger and snapshot of each outlet, named in its settings.

    Args:
        contract: the frozen contract.
        outlets: each outlet's settings file, `NAME.toml`; its home becomes the folder `NAME`.

    Raises:
        InputError: the run adds no noise, so that no ledger can hold it; damaged data.
        StorageError: the disk refuses.
    """
    if not contract.plan.protected:
        raise InputError(
            'a run without noise (epsilon = "inf") has no price',
            where="--ledgers",
            advice="leave out --ledgers, or give --epsilon 3",
        )
    files = [_here(settings) for settings in outlets]
    for settings, file in zip(outlets, files, strict=True):
        home = settings.with_suffix("")
        private_folder(home)
        replace_file(home / POLICY, _policy(contract).encode())
        Approvals(home / FOLDER).approve(contract.digest, by=APPROVER)
        private_folder((home / LOG_KEY).parent)
        SigningKey.generate().write(home / LOG_KEY)
        new_ledger(contract, home).close()
        lines = f'policy = "{home.name}/{POLICY}"\nledger = "{home.name}/{LEDGER}"\n'
        replace_file(settings, lines.encode() + settings.read_bytes())
        read = read_settings(settings)
        kept = task_of(contract).columns
        freeze(file, home / SNAPSHOT, columns=read.columns, kept=kept)


def _here(settings: Path) -> Path:
    file = read_settings(settings).file
    if isinstance(file, Path):
        return file
    raise InputError(
        "records that lie elsewhere have no snapshot here",
        where=str(settings),
        expected="[simulation] data on this machine",
        got=file,
        advice="simulate without ledgers, or copy the records here",
    )


def export_ledgers(outlets: Sequence[Path], folder: Path) -> list[Path]:
    """Write each outlet's ledger as `NAME.export` into a new folder."""
    folder.mkdir(exist_ok=True)
    made = []
    for settings in outlets:
        home = settings.with_suffix("")
        made.append(folder / f"{home.name}.export")
        with Ledger(home / LEDGER) as ledger, replacing(made[-1]) as stream:
            export(ledger, stream, signer=signer_in(home), witnesses=[])
    return made


def new_ledger(
    contract: Contract, home: Path, *, runs: int = RUNS, today: Callable[[], date] = utc_today
) -> Ledger:
    """An outlet's ledger with room for so many runs of a contract."""
    plan = contract.plan
    found = propose([contract.trust.event(contract)] * runs, delta=plan.delta)
    return Ledger.create(
        home / LEDGER,
        signer=signer_in(home),
        unit=plan.unit,
        order=found.order,
        delta=plan.delta,
        caps=Caps(epsilon_max=found.epsilon),
        today=today,
    )


def signer_in(home: Path) -> notes.Signer:
    """The key of a simulated outlet's ledger."""
    key = SigningKey.read(home / LOG_KEY)
    return notes.Signer.load(f"presspool/{home.name}", key.secret, kind=notes.NOTE)


def _policy(contract: Contract) -> str:
    plan, model = contract.plan, contract.model
    return POLICY_TOML.format(
        epsilon=contract.trust.epsilon(contract),
        alone=contract.trust.alone(contract, plan.steps) or 1.0,
        delta=plan.delta,
        sigma=plan.noise_multiplier,
        steps=plan.steps,
        rounds=contract.federation.rounds,
        task=contract.task.kind,
        trust=contract.federation.trust,
        outlets=min(2, contract.crowd),
        targets=toml_value(list(contract.adapter.targets)),
        scale=contract.method.scale(contract) or 1.0,
        records=contract.privacy.records_per_reader,
        length=contract.task.max_length,
        model=toml_value(model.id),
        weights=model.weights,
        tokenizer=model.tokenizer,
        manifest=model.manifest,
        folder=toml_value(str(located(model.id, fetch=False).resolve())),
    )
