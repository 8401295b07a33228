"""PressPool: media outlets fine-tune one language model without sharing readers' data.

The package is four parts, imported in one direction only::

    simulations  ->  server | client  ->  common

`client` is what runs beside an outlet's subscriber database, `server` is the coordinator,
`common` is what both agree on, `simulations` plays all of them on one machine.

Who uses a finished adapter needs one call: `presspool.load(FOLDER).predict(["Cup final"])`.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from presspool.common.released.adapter_model import AdapterModel

__version__ = "0.1.0"

# A private training run must not phone home through its dependencies. Set before any of them is
# imported; an operator who wants one of these on can still say so in the environment.
for _switch, _value in {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "GRPC_VERBOSITY": "NONE",  # its C++ part writes to standard error past all logging
}.items():
    os.environ.setdefault(_switch, _value)

# gRPC reads its cipher suites once, when it is first imported, and has no other way to say "TLS 1.3
# only": see `presspool.common.pki.tls`. Not for an operator to change.
os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-RSA-AES256-GCM-SHA384"


def load(adapter: Path | str) -> AdapterModel:
    """A released adapter, ready for use.

    Args:
        adapter: its folder, or the folder of a complete run.

    Raises:
        presspool.common.base.errors.PressPoolError: the folder, or its base model, is not as it
            should be.
    """
    # By name and not before: torch can wait till here, and whoever imports this package for its
    # version does not thereby import all of it.
    model: type[AdapterModel] = import_module(
        "presspool.common.released.adapter_model"
    ).AdapterModel
    return model.load(Path(adapter))
