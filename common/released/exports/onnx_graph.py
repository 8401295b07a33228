"""`onnx` and `int8`: the model from tokens to the head's outputs as one graph, for onnxruntime.

Pooling and head are in the graph: inputs are `input_ids` and `attention_mask`, int64 (records,
tokens), of any number of either; the output is `outputs`, float32 (records, …), in the order of the
contract's labels. In `int8` weights are whole numbers of 8 bits and activations are brought to such
numbers as they come.

Invariant: what a record becomes depends on that record alone, but for `int8`, where the largest
activation of a batch sets the scale of all.

Example: `InferenceSession(folder / "model.onnx").run(None, {"input_ids": …, "attention_mask": …})`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from presspool.common.base.errors import InputError
from presspool.common.base.extras import from_extra
from presspool.common.contract.contract import Contract
from presspool.common.contract.doors import task_of
from presspool.common.models.frozen_product import unquicken
from presspool.common.released.exports.export_format import (
    EIGHT,
    ExportFormat,
    refused,
    save_tokenizer,
)

if TYPE_CHECKING:
    from presspool.common.released.exports.placed import Placed

INPUTS = ("input_ids", "attention_mask")
OPSET = 17
LARGEST = 2_000_000_000  # bytes of weights; a graph's file has at most 2 GiB


class OnnxGraph(ExportFormat):
    """32 bits."""

    name = "onnx"
    reads = "onnxruntime: InferenceSession(FOLDER/model.onnx)"
    file = "model.onnx"

    def check(self, contract: Contract) -> None:
        """Only tasks that read their answer off one pass over one text."""
        with from_extra("export", "no ONNX here", where="--format"):
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
        task = task_of(contract)
        if "head" not in task.groups or task.parted:
            windows = " in windows" if task.parted and not task.listed else ""
            raise refused(
                self.name,
                "a task that this form cannot hold",
                got=contract.task.kind + windows,
                advice="--format merged, or gguf where the model writes",
            )

    def prepared(self, placed: Placed) -> Placed:
        """Folded where that can be, else with the method's own layers."""
        try:
            return placed.folded()
        except InputError:
            return placed

    def write(self, placed: Placed, folder: Path) -> None:
        """Trace the model on a made batch; both of its sizes stay free."""
        size = sum(value.numel() * 4 for value in placed.headed.parameters())
        if size > LARGEST:
            raise refused(self.name, "a model too large", got=f"{size:,} bytes", advice="merged")
        ids = torch.arange(24).reshape(2, 12) % placed.headed.config.vocab_size
        mask = torch.ones_like(ids)
        mask[1, 8:] = 0
        unquicken(placed.headed)
        try:
            self._trace(placed, ids, mask, folder)
        except (RuntimeError, NotImplementedError, ValueError) as error:
            raise refused(
                self.name, "a base model that no graph can be made of", got=error, advice="merged"
            ) from None
        save_tokenizer(placed.contract, folder)

    def _trace(self, placed: Placed, ids: Tensor, mask: Tensor, folder: Path) -> None:
        placed.headed.encoder.set_attn_implementation("eager")
        free = {name: {0: "records", 1: "tokens"} for name in (*INPUTS, "outputs")}
        if placed.outputs({"input_ids": ids, "attention_mask": mask}).dim() == 2:
            free["outputs"] = {0: "records"}
        with _quiet(), torch.inference_mode():
            torch.onnx.export(
                _Traced(placed.headed),
                (ids, mask),
                str(folder / OnnxGraph.file),
                input_names=list(INPUTS),
                output_names=["outputs"],
                dynamic_axes=free,
                opset_version=OPSET,
                dynamo=False,
            )

    def read(self, contract: Contract, folder: Path) -> Session:  # noqa: ARG002
        """By onnxruntime."""
        return Session(folder / self.file)


class EightBits(OnnxGraph):
    """8 bits: onnxruntime's dynamic quantisation of the graph."""

    name = "int8"
    reads = "onnxruntime: InferenceSession(FOLDER/model.int8.onnx)"
    file = "model.int8.onnx"
    tolerance = EIGHT

    def write(self, placed: Placed, folder: Path) -> None:
        """The graph, quantised; the one of 32 bits goes."""
        from onnxruntime.quantization import QuantType, quantize_dynamic

        super().write(placed, folder)
        whole = folder / OnnxGraph.file
        with _quiet():
            # On 1,000 news texts one scale a matrix changed 10 % of answers, one a column 3 %.
            quantize_dynamic(
                whole, folder / self.file, weight_type=QuantType.QInt8, per_channel=True
            )
        whole.unlink()


class Session:
    """A graph at work.

    Args:
        file: the graph.
        threads: of the computation; onnxruntime's choice if 0.
    """

    def __init__(self, file: Path, threads: int = 0) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )

    def outputs(self, batch: Mapping[str, Tensor]) -> Tensor:
        """As `Says.outputs`."""
        (said,) = self._session.run(None, {name: batch[name].numpy() for name in INPUTS})
        return torch.from_numpy(said)

    def spelt(self, outputs: Tensor) -> Tensor:
        """The head's outputs themselves."""
        return outputs


class _Traced(nn.Module):
    """Two tensors in, one out, as the tracer wants it."""

    def __init__(self, headed: nn.Module) -> None:
        super().__init__()
        self._headed = headed

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        said: Tensor = self._headed(input_ids, attention_mask)
        return said


@contextmanager
def _quiet() -> Iterator[None]:
    """Tracers warn of every branch; whether one was wrong, the comparison says."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.root.setLevel(level)
