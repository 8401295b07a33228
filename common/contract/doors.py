"""What a contract may name: task, method, aggregator, trust model; a line here, a file there.

Example:
    >>> TASKS.names
    ('ad-response', 'classification', 'fill-mask', 'generation', 'recommendation', 'tagging')
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from presspool.common.base.registry import Registry
from presspool.common.contract.refused_methods import REFUSED_METHODS

if TYPE_CHECKING:
    from presspool.common.contract.contract import Contract
    from presspool.common.methods.method import Method
    from presspool.common.tasks.task import Task
    from presspool.common.trust.trust_model import TrustModel

TASKS: Registry[type[Task[Any]]] = Registry(
    "task",
    {
        "ad-response": "presspool.common.tasks.ad_response:AdResponse",
        "classification": "presspool.common.tasks.classification:Classification",
        "fill-mask": "presspool.common.tasks.fill_mask:FillMask",
        "generation": "presspool.common.tasks.generation:Generation",
        "recommendation": "presspool.common.tasks.recommendation:Recommendation",
        "tagging": "presspool.common.tasks.tagging:Tagging",
    },
)

METHODS: Registry[type[Method]] = Registry(
    "method",
    {
        "ffa": "presspool.common.methods.ffa:Ffa",
        "fedit": "presspool.common.methods.fedit:FedIt",
        "head": "presspool.common.methods.head:Head",
        "rslora": "presspool.common.methods.rslora:RsLora",
        "rolora": "presspool.common.methods.rolora:RoLora",
        "dora": "presspool.common.methods.dora:Dora",
        "fed-sb": "presspool.common.methods.fed_sb:FedSb",
        "bottleneck": "presspool.common.methods.bottleneck:BottleneckAdapters",
        "ia3": "presspool.common.methods.ia3:Ia3",
        "bitfit": "presspool.common.methods.bitfit:BitFit",
        "layernorm": "presspool.common.methods.layer_norms:LayerNorms",
    },
    refused=REFUSED_METHODS,
)

AGGREGATORS: Registry[Any] = Registry(
    "aggregator",
    {
        "average": "presspool.server.rounds.aggregators.average:Average",
        "adam": "presspool.server.rounds.aggregators.adam:Adam",
    },
)

ROBUST_RULES: Registry[Any] = Registry(
    "robust rule",
    {
        "mean": "presspool.server.rounds.aggregators.aggregator:WeightedMean",
        "trimmed-mean": "presspool.server.rounds.aggregators.robust:TrimmedMean",
        "median": "presspool.server.rounds.aggregators.robust:Median",
        "krum": "presspool.server.rounds.aggregators.robust:krum",
        "rfa": "presspool.server.rounds.aggregators.robust:geometric_median",
    },
)

TRUST_MODELS: Registry[type[TrustModel]] = Registry(
    "trust model",
    {
        "local": "presspool.common.trust.local:Local",
        "pooled": "presspool.common.trust.pooled:Pooled",
    },
)


def task_of(contract: Contract) -> Task[Any]:
    """The task that a contract names."""
    return TASKS[contract.task.kind](contract.task, contract.model)
