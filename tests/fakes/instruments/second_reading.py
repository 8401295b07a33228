"""An export read a second time, with `json` and schoolbook arithmetic and nothing of PressPool's.

`outlet(data)` is what a report's document must say of one outlet: every key, every number. It
verifies nothing; it shares no code with what makes reports.
"""

from __future__ import annotations

import json
import math
import re
from base64 import b64decode
from typing import Any

UNIT = 2.0**-40  # nats
Entry = dict[str, Any]


def outlet(data: bytes, *, name: str) -> dict[str, Any]:
    """The whole of an outlet's part, but for its sentence and for who approved."""
    log, heads = lines(data)
    opened, last = log[0], log[-1]["seq"]
    caps = [e for e in log if e["kind"] in ("opened", "policy-changed")]
    alpha, delta = opened["order"], opened["delta"]

    def capacity(epsilon: float) -> int:
        nats: float = epsilon - math.log(1 - 1 / alpha) + math.log(delta * alpha) / (alpha - 1)
        return math.floor(nats / UNIT)

    def room(epsilon: float | None, used: int) -> Any:
        if epsilon is None:
            return None
        whole = capacity(epsilon)
        return {
            "epsilon": epsilon,
            "used_nats": used * UNIT,
            "capacity_nats": whole * UNIT,
            "free_nats": max(0, whole - used) * UNIT,
            "share": used / whole,
        }

    lifetime = capacity(caps[-1]["epsilon_max"])
    reserved = [e for e in log if e["kind"] == "reserve"]
    runs = [run(e, log, lifetime=lifetime, newest=e is reserved[-1]) for e in reserved]
    charges = [round(r["charged_nats"] / UNIT) for r in runs]
    used = sum(charges)
    kept_open = sum(c for c, r in zip(charges, runs, strict=True) if r["state"] != "over")
    dangling = sum(c for c, r in zip(charges, runs, strict=True) if r["state"] == "dangling")
    parts = {"settled": used - kept_open, "reserved": kept_open, "dangling": dangling}
    per_dataset = {
        d: sum(c for c, e in zip(charges, reserved, strict=True) if d in e["datasets"])
        for e in reserved
        for d in e["datasets"]
    }
    claim = max(caps, key=lambda e: e["epsilon_max"])
    spent = {
        period: sum(c for c, e in zip(charges, reserved, strict=True) if e["period"] == period)
        for period in dict.fromkeys(e["period"] for e in reserved)
    }
    ask, period = reserved[-1]["charge"], reserved[-1]["period"]
    limits = [lifetime - used]
    if caps[-1]["period_epsilon"] is not None:
        limits.append(capacity(caps[-1]["period_epsilon"]) - spent[period])
    if caps[-1]["dataset_epsilon"] is not None:
        limits += [
            capacity(caps[-1]["dataset_epsilon"]) - per_dataset[d] for d in reserved[-1]["datasets"]
        ]
    return {
        "source": name,
        "verified": True,
        "origin": opened["origin"],
        "name": opened["origin"].split("/")[-1],
        "unit": opened["unit"],
        "order": alpha,
        "delta": delta,
        "entries": len(log),
        "day": log[-1]["day"],
        "claim": {"epsilon": claim["epsilon_max"], "delta": delta, "entry": claim["seq"]},
        "filter": {
            **room(caps[-1]["epsilon_max"], used),
            "entry": last,
            **{f"{key}_nats": units * UNIT for key, units in parts.items()},
            **{f"{key}_share": units / lifetime for key, units in parts.items()},
            "more_runs": max(0, min(limits)) // ask,
        },
        "periods": [
            {
                "name": period,
                "used_nats": units * UNIT,
                "lifetime_share": units / lifetime,
                "cap": room(caps[-1]["period_epsilon"], units),
                "entry": last,
                "closed_by": None,
                "runs": [e["seq"] for e in reserved if e["period"] == period],
            }
            for period, units in spent.items()
        ],
        "datasets": [
            {"dataset": d, "cap": room(caps[-1]["dataset_epsilon"], units), "entry": last}
            for d, units in per_dataset.items()
        ],
        "runs": runs,
        "refusals": [
            {
                "entry": e["seq"],
                "day": e["day"],
                "run": e["run"],
                "reason": e["reason"],
                "asked_nats": e["charge"] * UNIT,
                "free_nats": e["free"] * UNIT,
            }
            for e in log
            if e["kind"] == "refusal"
        ],
        "caps": [
            {
                "entry": e["seq"],
                "day": e["day"],
                **{key: e[key] for key in ("epsilon_max", "period_epsilon", "dataset_epsilon")},
            }
            for e in caps
        ],
        "signing_keys": [{"entry": 0, "day": opened["day"], "key": opened["key"]}],
        "data": [
            {"entry": e["seq"], **{k: v for k, v in e.items() if k not in ("seq", "kind")}}
            for e in log
            if e["kind"] == "data-frozen"
        ],
        "points": points(log, capacity),
        "head": head(heads, len(log)),
    }


def lines(data: bytes) -> tuple[list[Entry], list[str]]:
    """The entries, and the notes of the signed heads, of an export."""
    rows = data.decode().splitlines()[1:]
    log = [json.loads(row.partition(" ")[2]) for row in rows if not row.startswith("{")]
    return log, [json.loads(row)["checkpoint"] for row in rows if row.startswith("{")]


def run(entry: Entry, log: list[Entry], *, lifetime: int, newest: bool) -> dict[str, Any]:
    """One reservation and everything that came after it."""
    own = [e for e in log if e.get("reservation") == entry["reservation"]]
    back = [e for e in own if e["kind"] == "give-back"]
    sent = [e for e in own if e["kind"] == "release-intent"]
    over = [e["seq"] for e in own if e["kind"] == "settle"]
    charge, event = (back or [entry])[-1]["charge"], entry["event"]
    step = event["event"]
    state = "over" if over else "reserved" if newest else "dangling"
    return {
        "entry": entry["seq"],
        "day": entry["day"],
        "run": entry["run"],
        "period": entry["period"],
        "datasets": entry["datasets"],
        "phases": [
            {
                "steps": event["count"],
                "sampling_rate": step["rate"],
                "noise_multiplier": step["event"]["noise_multiplier"],
                "mechanism": "Poisson-sampled Gaussian",
            }
        ],
        "steps_reserved": event["count"],
        "steps_charged": back[-1]["kept"] if back else event["count"],
        "steps_declared": sent[-1]["steps"] if sent else 0,
        "reserved_nats": entry["charge"] * UNIT,
        "charged_nats": charge * UNIT,
        "share": charge / lifetime,
        "stated": entry["stated"],
        "releases": [
            {"entry": e["seq"], **{key: e[key] for key in ("day", "round", "steps", "digest")}}
            for e in sent
        ],
        "received": [
            {"entry": e["seq"], "round": e["round"], "digest": e["digest"]}
            for e in log
            if e["kind"] == "adapter-received" and e["run"] == entry["run"]
        ],
        "given_back_by": back[-1]["seq"] if back else None,
        "settled_by": over[0] if over else None,
        "state": state,
        "approval": None,
    }


def points(log: list[Entry], capacity: Any) -> list[dict[str, Any]]:
    """The budget after each entry that changed it or the cap."""
    charged: dict[str, int] = {}
    whole, found = 0, []
    for e in log:
        if e["kind"] in ("opened", "policy-changed"):
            whole = capacity(e["epsilon_max"])
        elif e["kind"] in ("reserve", "give-back"):
            charged[e["reservation"]] = e["charge"]
        else:
            continue
        used = sum(charged.values())
        found.append(
            {"entry": e["seq"], "day": e["day"], "used_nats": used * UNIT, "share": used / whole}
        )
    return found


def head(heads: list[str], entries: int) -> dict[str, Any]:
    """The newest signed head, as its note says."""
    size, root = heads[-1].split("\n")[1:3]
    signers = re.findall(r"^— (\S+) ", heads[-1], re.MULTILINE)
    return {
        "entries": int(size),
        "root": b64decode(root).hex(),
        "signed_heads": len(heads),
        "unsigned_entries": entries - int(size),
        "cosigners": signers[1:],
        "key_compared": False,
        "heads_compared": 0,
    }
