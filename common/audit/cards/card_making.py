"""What a privacy card says, gathered: from the contract, the ledgers, the folder and the operator.

Where each part comes from:

* the frozen contract: mechanism, sampling, clip norms, steps, populations, hashes of the base;
* the outlets' ledgers: budget used and left, index, checkpoint, cosignatures. An outlet that the
  card covers and whose ledger is not given leaves those fields blank, so that the card is refused;
* the adapter's file and the installed package: their hashes;
* `[card]` of the operator's fields: purpose, dates, approver, retention, erasure;
* this module: what the program does in every run, in words that its tests stand for.

Invariants:
    * ε is computed again from the contract's plan, and must be what ledgers and result say.
    * A run without noise, or with reproducible noise, has no privacy to put on a card: refused.

Example: `make(run, evidence.outlets, fields, covers=())` is a `Card`, or a `CardError` that names
every blank field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from importlib import metadata
from typing import Any

from pydantic import ValidationError

from presspool.common.accounting import events
from presspool.common.audit.cards import card as cards
from presspool.common.audit.cards.code_digest import code_digest
from presspool.common.audit.evidence.evidence import RunReading
from presspool.common.audit.evidence.governance import CardFields, Fields
from presspool.common.audit.evidence.ledger_view import OutletReading, ReservedRun
from presspool.common.base.errors import CardError, EvidenceError, FolderError, InputError
from presspool.common.contract.contract import Contract
from presspool.common.contract.privacy_plan import ACCOUNTANT
from presspool.common.contract.statement import all_of, statement

TOLERANCE = 1e-6
Part = dict[str, Any]


def make(
    run: RunReading, ledgers: Sequence[OutletReading], fields: Fields, *, covers: Sequence[str]
) -> cards.Card:
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
    adapter = _released(run)
    covered = _covered(run.contract, covers)
    plan, said = run.contract.plan, fields.card
    epsilon = plan.epsilon()
    _require_same("result.json", epsilon, run.result.epsilon)
    kept = {ledger.name: (ledger, _reserved(ledger, run.contract, covered)) for ledger in ledgers}
    for ledger, found in kept.values():
        _require_agreement(ledger, found, run.contract, epsilon)
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
            "outlets": {name: _outlet(*kept.get(name, (None, None))) for name in covered},
            "reader_of_every_outlet": {
                "epsilon": str(len(covered) * Decimal(repr(epsilon))),
                "delta": str(len(covered) * Decimal(repr(plan.delta))),
            },
            "empirical_epsilon": _empirical(run),
            "hashes": {
                "base_model": run.contract.model.weights,
                "tokenizer": run.contract.model.tokenizer,
                "adapter": adapter,
                "code": code_digest(),
                "contract": run.contract.digest,
            },
            "versions": dict(run.result.versions),
        },
    }
    try:
        return cards.parse(body)
    except CardError as error:
        raise _advised(error, said, [name for name in covered if name not in kept]) from None


def _advised(error: CardError, said: CardFields, missing: Sequence[str]) -> CardError:
    """The same error, with what the person at the keyboard can do about it."""
    blank = [key for key, _, text in said.rows() if not text]
    steps = [f"fill in [card] of the --fields file: {', '.join(blank)}"] if blank else []
    if missing:
        steps.append(f"give --ledger of {', '.join(missing)}, or leave them out with --outlet")
    return CardError(
        error.what,
        where=error.where,
        expected=error.expected,
        got=error.got,
        fields=error.fields,
        advice="; ".join(steps) or "correct what is named",
    )


def _released(run: RunReading) -> str:
    """The adapter's hash, of the file that lies there and that the run released."""
    where = str(run.path / "adapter")
    if run.result.adapter_sha256 is None or run.adapter is None:
        raise FolderError(
            "no released adapter",
            where=where,
            expected="a run that is complete",
            got=run.result.status,
        )
    if run.adapter != run.result.adapter_sha256:
        raise FolderError(
            "not the adapter that the run released",
            where=where,
            expected=run.result.adapter_sha256,
            got=run.adapter,
        )
    if not run.contract.plan.protected or run.deterministic:
        raise InputError(
            "there is no privacy to put on a card",
            where=str(run.path),
            expected="a run with secret noise",
            got="a simulation whose noise can be drawn again"
            if run.deterministic
            else 'a run without noise (epsilon = "inf")',
        )
    return f"sha256:{run.adapter}"


def _covered(contract: Contract, covers: Sequence[str]) -> list[str]:
    strange = sorted(set(covers) - contract.outlets.keys())
    if strange:
        raise InputError(
            "no such outlet in the run",
            where="--outlet",
            got=", ".join(strange),
            expected=", ".join(sorted(contract.outlets)),
        )
    return sorted(covers or contract.outlets)


def _reserved(ledger: OutletReading, contract: Contract, covered: Sequence[str]) -> ReservedRun:
    """The ledger's entry of this run; what was given is never ignored."""
    found = next((entry for entry in ledger.runs if entry.run == contract.digest), None)
    if ledger.name in covered and found is not None:
        return found
    raise InputError(
        "a ledger that has nothing to say on this card",
        where=ledger.source,
        expected=f"a ledger of {', '.join(covered)} in which run {contract.digest} was reserved",
        got=f"{ledger.name}'s, without that run" if found is None else f"{ledger.name}'s",
        advice="give the ledger that the run was trained under, or take this --ledger away",
    )


def _require_same(where: str, ours: float, theirs: float | None) -> None:
    if theirs is None or abs(ours - theirs) > TOLERANCE:
        raise EvidenceError(
            "another ε than the contract's plan costs",
            where=where,
            expected=f"{ours:.9g}",
            got=theirs,
        )


def _require_agreement(
    ledger: OutletReading, found: ReservedRun, contract: Contract, epsilon: float
) -> None:
    planned = events.from_dp(contract.trust.event(contract))
    if found.event != planned or ledger.unit != contract.privacy.unit:
        raise EvidenceError(
            "the ledger reserved something else than the contract says",
            entry=found.seq,
            where=f"{ledger.source}, entry {found.seq}",
            got=found.event,
            expected=planned,
        )
    if found.stated is not None:
        _require_same(f"{ledger.source}, entry {found.seq}", epsilon, found.stated.epsilon)


def _where(covered: Sequence[str], said: CardFields) -> str:
    names = covered[0] if len(covered) == 1 else f"any one of {', '.join(covered)}"
    return f"{names} from {said.records_since} to {said.records_until}"


def _both(*texts: str) -> str:
    """Texts that belong together; blank where one is, so that the field is refused."""
    return " ".join(texts) if all(texts) else ""


def _registry(contract: Contract, epsilon: float, said: CardFields, covered: list[str]) -> Part:
    unit, model = contract.privacy.unit, contract.federation
    dates = _both(said.records_since, "to", said.records_until)
    return {
        "basic": {
            "name": said.name,
            "data_curators": said.data_curators,
            "intended_use": said.intended_use,
            "data_product_type": "Machine learning model",
            "data_product_region": said.region,
            "description": said.description,
            "publication_date": said.publication_date,
            "data_product_sector": said.sector,
        },
        "dp_variant": {
            "variant_name": "Approximate DP",
            "data_domain": dates
            and f"Any set of labelled texts of readers at one outlet of the "
            f"run ({', '.join(covered)}), from {dates}; a text counts with its first "
            f"{contract.task.max_length} tokens.",
            "unprotected_quantities": "The contract: declared populations, labels, base model, "
            "rounds and all hyper-parameters. Which outlets answered, and how long they took.",
        },
        "privacy_loss": {
            "privacy_unit": f"One {unit} at one outlet"
            + ("" if unit == "reader" else " (weaker than all records of one reader)"),
            "privacy_unit_details": "Two data sets of an outlet are adjacent if one has "
            f"{all_of(unit)} more than the other. Shared accounts and rotated reader ids "
            "are outside the unit; somebody with two ids is two readers.",
            "privacy_parameters": {"epsilon": epsilon, "delta": contract.plan.delta},
            "privacy_parameters_details": "ε and δ of this run alone, for one outlet's readers. A "
            "reader of several outlets pays the sum (governance.reader_of_every_outlet); all that "
            "an outlet ever released is under its ledger's own claim (governance.outlets).",
        },
        "deployment_model": {
            "model_name": "Federated",
            "model_name_details": f"Trust model {model.trust}: {contract.trust.words.curator}",
            "actors": contract.trust.words.actors,
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
        },
        "accounting": {
            "post_processing": "Averaging over outlets, the coordinator's optimizer, and a cap on "
            f"an update's norm ({contract.federation.update_norm_cap:g}) work on noisy values "
            "only.",
            "composition": f"{contract.steps} steps composed sequentially by privacy loss "
            "distributions. Runs of one outlet compose in its ledger by a Rényi filter of fixed "
            "order, whatever earlier runs showed. Several outlets compose sequentially.",
        },
        "implementation": {
            "preprocessing_and_hyperparameter_tuning": _both(
                said.preprocessing, said.hyperparameters
            ),
            "mechanisms": "Poisson-sampled Gaussian mechanism on clipped per-"
            f"{unit} gradients, PressPool {metadata.version('presspool')} with Opacus' optimizer "
            "and accounting by dp_accounting. Sums and noise lie on a grid of 2^-30 of the noise "
            "against floating-point attacks. The time that an outlet takes is not protected. "
            "Records stay at the outlet; between machines, updates travel signed over mutual "
            "TLS 1.3.",
            "justification": said.justification,
        },
        "administrative": {
            "sources": said.sources,
            "notes": said.notes,
            "registry_authors": said.registry_authors,
        },
    }


def _training(contract: Contract, covered: list[str]) -> Part:
    plan, model = contract.plan, contract.federation
    trust = contract.trust
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
        "rounds": model.rounds,
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
        "accountant": ACCOUNTANT,
        "accountant_version": metadata.version("dp-accounting"),
        "random_generator": "ChaCha20 (RFC 8439), keyed with 256 bits from the operating system "
        "at the outlet, for noise and sampling; never the contract's seed",
        "noise_added_by": trust.words.noise_added_by,
        "collusion_threshold": trust.colluding(contract),
        "collusion_details": f"Trust model {model.trust}: {trust.words.collusion}",
        "dropout_threshold": trust.dropping(contract),
        "dropout_details": f"Trust model {model.trust}: {trust.words.dropout}; a round needs "
        f"{model.quorum} answers to count.",
    }


def _outlet(ledger: OutletReading | None, found: ReservedRun | None) -> Part:
    """One outlet's ledger; blank fields where it is not at hand, or signs nothing yet."""
    if ledger is None or found is None:
        return dict.fromkeys(cards.OutletGovernance.model_fields)
    head, approval = ledger.head, ledger.approval(found.run)
    signed = head.size > found.last
    return {
        "ledger": ledger.origin,
        "ledger_index": found.seq,
        "claim_epsilon": ledger.claim,
        "claim_delta": ledger.delta,
        "budget_used": ledger.lifetime.share,
        "budget_left": ledger.lifetime.free / ledger.lifetime.room,
        "runs_composed": len(ledger.runs),
        "checkpoint": {"entries": head.size, "root": head.root} if signed else None,
        "cosignatures": {
            "count": len(head.cosigned),
            "by": dict(head.cosigned),
            "note": "checked with the keys in the export; which of them to believe is for the "
            "reader to know"
            if head.cosigned
            else "no witness cosigned a head of this ledger",
        },
        "approved": "written at the outlet, in no export"
        if approval is None
        else f"{approval.by or 'nobody named'}, {approval.day or 'day not written down'}",
    }


def _empirical(run: RunReading) -> Mapping[str, Any]:
    path = run.path / cards.EMPIRICAL_FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        why = f"no attack was run on this adapter (the run folder has no {path.name})"
        return {"status": "not measured", "why": why}
    except OSError as error:
        raise InputError("cannot read", where=str(path), got=error.strerror) from None
    try:
        found = cards.Measured.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            "not an attack's result", where=f"{path} {place}".strip(), got=first["msg"]
        ) from None
    if found.contract != run.contract.digest:
        raise InputError(
            "an attack on another run",
            where=str(path),
            expected=run.contract.digest,
            got=found.contract,
            advice="attack this one: `presspool audit attack`",
        )
    return found.model_dump(mode="json")
