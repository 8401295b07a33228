"""What a privacy card says, gathered: from the contract, the ledgers, the folder and the operator.

Where each part comes from:

* the frozen contract: mechanism, sampling, clip norms, steps, populations, hashes of the base;
* the outlets' ledgers: budget used and left, index, checkpoint, cosignatures. An outlet that the
  card covers and whose ledger is not given leaves those fields blank, so that the card is refused;
* the adapter's file and the installed package: their hashes;
* the operator's fields: purpose, dates, approver, retention, erasure, and what a data-protection
  officer asks for (`data_protection_answers`);
* this module: what the program does in every run, in words that its tests stand for.

Invariants:
    * ε is computed again from the contract's plan, and must be what ledgers and result say.
    * A run without noise, or with reproducible noise, has no privacy to put on a card: refused.

Example: `make(run, evidence.outlets, fields, covers=())` is a `Card`, or a `CardError` that names
every blank field.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from importlib import metadata
from typing import Any

from presspool.common.audit.cards import card as cards
from presspool.common.audit.cards import card_evidence
from presspool.common.audit.cards.code_digest import code_digest
from presspool.common.audit.cards.data_protection_answers import answers
from presspool.common.audit.evidence.evidence import RunReading
from presspool.common.audit.evidence.governance import CardFields, Fields, curator, needed
from presspool.common.audit.evidence.ledger_view import OutletReading
from presspool.common.base.errors import CardError
from presspool.common.contract.contract import Contract
from presspool.common.contract.doors import TASKS
from presspool.common.contract.privacy_plan import ACCOUNTANT
from presspool.common.contract.statement import all_of, statement

Part = dict[str, Any]


def make(
    run: RunReading, ledgers: Sequence[OutletReading], fields: Fields, *, covers: Sequence[str]
) -> cards.CardTwo:
    """The card of a run's adapter.

    Args:
        run: the run, complete.
        ledgers: of its outlets, as many as are at hand.
        fields: the operator's own words.
        covers: the outlets that the card speaks for; all of the run's if empty.

    Raises:
        CardError: a field is blank; names them all.
        FolderError: the run has not released an adapter, or another one lies there.
        InputError: a run that protects nobody, an outlet that the run does not have, or a ledger
            that has nothing to say on this card.
        EvidenceError: a ledger says something else about this run than its contract.
    """
    adapter = card_evidence.released(run)
    covered = card_evidence.covered(run.contract, covers)
    said, epsilon = fields.card, run.contract.trust.epsilon(run.contract)
    several = _several(run.contract, epsilon, len(covered))
    card_evidence.require_same("result.json", epsilon, run.result.epsilon)
    kept = {
        ledger.name: (ledger, card_evidence.reserved(ledger, run.contract, covered))
        for ledger in ledgers
    }
    for ledger, found in kept.values():
        card_evidence.require_agreement(ledger, found, run.contract, epsilon)
    measured = card_evidence.empirical(run)
    body = {
        "format": cards.FORMAT,
        "outlets_covered": covered,
        "statement": statement(
            run.contract, adapter=adapter, reproducible=False, where=_where(covered, said)
        ),
        "registry": _registry(run.contract, epsilon, said, covered),
        "training": _training(run.contract, covered),
        "governance": {
            "approver": said.approver,
            "retention": said.retention,
            "erasure": said.erasure,
            "outlets": {
                name: card_evidence.outlet(*kept.get(name, (None, None))) for name in covered
            },
            "reader_of_every_outlet": {
                "epsilon": str(several[0]),
                "delta": str(several[1]),
            },
            "empirical_epsilon": measured,
            "hashes": {
                "base_model": run.contract.model.weights,
                "tokenizer": run.contract.model.tokenizer,
                "adapter": adapter,
                "code": code_digest(),
                "contract": run.contract.digest,
            },
            "versions": dict(run.result.versions),
        },
        "data_protection": answers(run, fields, measured),
    }
    try:
        return cards.parse_as(cards.CardTwo, body)
    except CardError as error:
        raise _advised(error, fields, [name for name in covered if name not in kept]) from None


def _several(contract: Contract, epsilon: float, outlets: int) -> tuple[Decimal, Decimal]:
    """(ε, δ) of a reader at so many outlets: exact sums, but for a group inside pooled sums."""
    if contract.pooled is None:
        delta = Decimal(repr(contract.plan.delta))
        return outlets * Decimal(repr(epsilon)), outlets * delta
    found = contract.trust.several(contract, outlets, contract.outlet_steps)
    return Decimal(repr(found[0])), Decimal(repr(found[1]))


def _advised(error: CardError, fields: Fields, missing: Sequence[str]) -> CardError:
    """The same error, with what the person at the keyboard can do about it."""
    blank: dict[str, list[str]] = {}
    for table, key, _ in needed(fields):
        blank.setdefault(table, []).append(key)
    steps = [f"fill in [{t}] of the --fields file: {', '.join(keys)}" for t, keys in blank.items()]
    if missing:
        steps.append(f"give --ledger of {', '.join(missing)}, or leave them out with --outlet")
    advice = "; ".join(steps) or "correct what is named"
    return CardError(error.what, fields=error.fields, **error.parts | {"advice": advice})


def _where(covered: Sequence[str], said: CardFields) -> str:
    names = covered[0] if len(covered) == 1 else f"any one of {', '.join(covered)}"
    return f"{names} from {said.records_since} to {said.records_until}"


def _both(*texts: str) -> str:
    """Texts that belong together; blank where one is, so that the field is refused."""
    return " ".join(texts) if all(texts) else ""


def _registry(contract: Contract, epsilon: float, said: CardFields, covered: list[str]) -> Part:
    dates = _both(said.records_since, "to", said.records_until)
    words = contract.trust.words_of(contract.body())
    return {
        "basic": {
            "name": said.name,
            "data_curators": [curator(text) for text in said.data_curators],
            "intended_use": said.intended_use,
            "data_product_type": "Machine learning model",
            "data_product_region": said.region,
            "description": said.description,
            "publication_date": said.publication_date,
            "data_product_sector": said.sector,
        },
        **_protected(contract, epsilon, dates, covered),
        "deployment_model": _deployment(contract, said, dates),
        "accounting": {
            "post_processing": _afterwards(contract),
            "composition": f"{contract.outlet_steps} steps composed sequentially by "
            f"{words.composed_by}. Runs of one outlet compose in its ledger by a Rényi filter of "
            f"fixed order, whatever earlier runs showed. {words.several}",
        },
        "implementation": {
            "preprocessing_and_hyperparameter_tuning": _both(
                said.preprocessing, said.hyperparameters
            ),
            "mechanisms": f"{_mechanism(contract)} against floating-point attacks. The time that "
            "an outlet takes is not protected. Records stay at the outlet; between machines, "
            "updates travel signed over mutual TLS 1.3.",
            "justification": said.justification,
        },
        "administrative": {
            "sources": said.sources,
            "notes": said.notes,
            "registry_authors": said.registry_authors,
        },
    }


def _afterwards(contract: Contract) -> str:
    if contract.pooled is not None:
        return (
            "The division by the public b and the coordinator's optimizer work on noisy sums only."
        )
    return (
        "Averaging over outlets, the coordinator's optimizer, and a cap on an update's norm "
        f"({contract.federation.update_norm_cap:g}) work on noisy values only."
    )


def _mechanism(contract: Contract) -> str:
    program = f"PressPool {metadata.version('presspool')} with Opacus' optimizer and accounting by"
    clipped = f"clipped per-{contract.privacy.unit} gradients"
    if contract.pooled is not None:
        return (
            f"Poisson-sampled sums of {clipped} in whole numbers, hidden by the outlets' discrete "
            f"Gaussian shares together, {program} {contract.trust.accountant()}. Sums and noise "
            f"lie on a grid of 2^-{contract.trust.grid_bits(contract)} of the sensitivity"
        )
    return (
        f"Poisson-sampled Gaussian mechanism on {clipped}, {program} dp_accounting. Sums and noise "
        "lie on a grid of 2^-30 of the noise"
    )


def _protected(contract: Contract, epsilon: float, dates: str, covered: list[str]) -> Part:
    unit, task = contract.privacy.unit, TASKS[contract.task.kind]
    words = contract.trust.words_of(contract.body())
    alone = contract.trust.alone(contract, contract.outlet_steps)
    return {
        "dp_variant": {
            "variant_name": "Approximate DP",
            "data_domain": dates
            and f"Any set of {task.data} of readers at one outlet of the "
            f"run ({', '.join(covered)}), from {dates}; "
            f"{task.cut.format(contract.task.max_length)}.",
            "unprotected_quantities": f"The contract: declared populations, {task.public}, base "
            "model, rounds and all hyper-parameters. Which outlets answered, and how long they "
            "took.",
        },
        "privacy_loss": {
            "privacy_unit": f"One {unit} at one outlet"
            + ("" if unit == "reader" else " (weaker than all records of one reader)"),
            "number_of_privacy_units": sum(contract.outlets[name] for name in covered),
            "privacy_unit_details": "Two data sets of an outlet are adjacent if one has "
            f"{all_of(unit)} more than the other. Shared accounts and rotated reader ids "
            "are outside the unit; somebody with two ids is two readers.",
            "privacy_parameters": {"epsilon": epsilon, "delta": contract.plan.delta},
            "privacy_parameters_details": "ε and δ of this run alone, for one outlet's readers. A "
            f"reader of several outlets pays {'the sum' if alone is None else 'more'} "
            "(governance.reader_of_every_outlet); all that an outlet ever released is under its "
            "ledger's own claim (governance.outlets)."
            + ("" if alone is None else f" {words.claim} If everybody else does, ε = {alone!r}."),
        },
    }


def _deployment(contract: Contract, said: CardFields, dates: str) -> Part:
    model, words = contract.federation, contract.trust.words_of(contract.body())
    return {
        "model_name": "Federated",
        "model_name_details": f"Trust model {model.trust}: {words.curator}",
        "actors": words.actors,
        "release_type": "Many releases" if model.rounds > 1 else "One release",
        "release_type_details": _both(
            f"One adapter after each of {model.rounds} rounds, all under this ε.",
            said.releases,
        ),
        "data_source_type": said.data_source,
        "data_source_type_details": dates
        and f"Records from {dates}. The ledger's lifetime "
        "filter never resets: new records of a reader use the same budget.",
        "access_type": "Non-interactive",
        "access_type_details": "Nobody queries the records; the adapter is used as it is.",
    }


def _training(contract: Contract, covered: list[str]) -> Part:
    plan, model = contract.plan, contract.federation
    trust, words = contract.trust, contract.trust.words_of(contract.body())
    accountant, package = trust.stated_by
    return {
        "accesses_covered": f"Every private step on readers' records in the run's {model.rounds} "
        "rounds; a round that was trained again after a crash draws new noise and sends one "
        "answer.",
        "accesses_excluded": "What the outlet's own operator looked at on their own screen before "
        "the run (check-data); whatever the contract's numbers were chosen by (see the registry's "
        "field on tuning).",
        "outputs_covered": "Every update that an outlet sent, every averaged adapter in between, "
        "and the released adapter.",
        "outputs_excluded": "How long an outlet took to answer, which can depend on its data. "
        "Whether it answers is never decided by its data.",
        "adjacency": f"Add or remove {all_of(plan.unit)} at one outlet",
        "clip": dict(plan.clip),
        "joint_sensitivity": plan.sensitivity,
        "noise_multiplier": plan.noise_multiplier,
        "sampling_rate": plan.sampling_rate,
        "rounds": model.turns(len(contract.outlets)),
        "local_steps": model.local_steps,
        "steps": plan.steps,
        "records_per_reader": plan.records_per_reader,
        "population": {name: contract.outlets[name] for name in covered},
        "expected_batch": {name: plan.expected_batch(contract.outlets[name]) for name in covered},
        "sampling_assumed": f"Poisson sampling: in each step every {plan.unit} independently with "
        "probability q",
        "sampling_implemented": f"Poisson sampling: in each step every {plan.unit} independently "
        "with probability q, by the outlet's own secret generator; an empty sample is a step of "
        "pure noise, and the sum is divided by the constant b = q·n, never by the sample's size",
        "accountant": ACCOUNTANT if contract.pooled is None else accountant,
        "accountant_version": metadata.version(package),
        "random_generator": "ChaCha20 (RFC 8439), keyed with 256 bits from the operating system "
        "at the outlet, for noise and sampling; never the contract's seed",
        "noise_added_by": words.noise_added_by,
        "collusion_threshold": trust.colluding(contract),
        "collusion_details": f"Trust model {model.trust}: {words.collusion}",
        "dropout_threshold": trust.dropping(contract),
        "dropout_details": f"Trust model {model.trust}: {words.dropout}; a round needs "
        f"{trust.fewest(contract)} answers to count.",
    }
