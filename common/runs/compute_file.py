"""`compute.json` of a run folder: what computing the run took, by public numbers and at the seat.

Invariants:
    * Nothing in it is measured at an outlet: how long an outlet takes is not protected.
    * `training_flop` comes from the contract and the model's size alone.

Example:
    >>> RunCompute(training_flop=2e12, processor_seconds=3.5, energy_joules=None,
    ...         outlets="elsewhere").outlets
    'elsewhere'
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from presspool.common.base.errors import InputError
from presspool.common.base.files import replace_file
from presspool.common.base.validation import expected
from presspool.common.runs.result_fields import CHECKED, Amount

COMPUTE_FILE = "compute.json"


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class RunCompute:
    """What computing a run took so far.

    Attributes:
        training_flop: floating-point operations of all outlets' training over the whole run, at
            most, in expectation over the sampling.
        processor_seconds: of the coordinator's process, in whole rounds.
        energy_joules: of the processors of its machine, everything else on it included, in whole
            rounds; None where the machine has no counter that may be read.
        outlets: whether they computed on other machines, or here, as in a simulation.
    """

    training_flop: Annotated[float, Field(gt=0)]
    processor_seconds: Amount
    energy_joules: Amount | None
    outlets: Literal["elsewhere", "here"]


_FORM: TypeAdapter[RunCompute] = TypeAdapter(RunCompute)


def read_compute(folder: Path) -> RunCompute | None:
    """What lies in a run folder; None where nothing was measured.

    Raises:
        InputError: the file cannot be read, or is not what a run writes.
    """
    path = folder / COMPUTE_FILE
    try:
        return _FORM.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError("cannot read", where=str(path), got=error.strerror) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = " ".join(map(str, (path, *first["loc"])))
        raise InputError("not what a run writes", where=place, expected=expected(first)) from None


def write_compute(folder: Path, compute: RunCompute) -> None:
    """Replace the file whole; raises `StorageError` if the disk refuses."""
    text = json.dumps(dataclasses.asdict(compute), indent=2) + "\n"
    replace_file(folder / COMPUTE_FILE, text.encode())
