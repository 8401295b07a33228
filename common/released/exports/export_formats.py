"""The closed list of forms.

Example:
    >>> list(FORMATS)
    ['peft', 'merged', 'onnx', 'int8', 'gguf', 'gguf-f32']
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from presspool.common.released.exports.export_format import ExportFormat
from presspool.common.released.exports.gguf_file import HalfGguf, WholeGguf
from presspool.common.released.exports.merged_folder import Merged
from presspool.common.released.exports.onnx_graph import EightBits, OnnxGraph
from presspool.common.released.exports.plain_peft import PlainPeft

FORMATS: Mapping[str, ExportFormat] = MappingProxyType(
    {
        form.name: form
        for form in (PlainPeft(), Merged(), OnnxGraph(), EightBits(), HalfGguf(), WholeGguf())
    }
)
