from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RunPart(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RUN_PART_UNSPECIFIED: _ClassVar[RunPart]
    RUN_PART_CONTRACT: _ClassVar[RunPart]
    RUN_PART_STATE: _ClassVar[RunPart]
    RUN_PART_RESULT: _ClassVar[RunPart]
    RUN_PART_CARD: _ClassVar[RunPart]
RUN_PART_UNSPECIFIED: RunPart
RUN_PART_CONTRACT: RunPart
RUN_PART_STATE: RunPart
RUN_PART_RESULT: RunPart
RUN_PART_CARD: RunPart

class ListRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FinishedRun(_message.Message):
    __slots__ = ("run", "contract", "ended")
    RUN_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    run: str
    contract: str
    ended: float
    def __init__(self, run: _Optional[str] = ..., contract: _Optional[str] = ..., ended: _Optional[float] = ...) -> None: ...

class ListReply(_message.Message):
    __slots__ = ("runs",)
    RUNS_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[FinishedRun]
    def __init__(self, runs: _Optional[_Iterable[_Union[FinishedRun, _Mapping]]] = ...) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("contract", "part")
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    contract: str
    part: RunPart
    def __init__(self, contract: _Optional[str] = ..., part: _Optional[_Union[RunPart, str]] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class NextTaskRequest(_message.Message):
    __slots__ = ("put_off", "version", "clock")
    PUT_OFF_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    put_off: _containers.RepeatedScalarFieldContainer[str]
    version: str
    clock: float
    def __init__(self, put_off: _Optional[_Iterable[str]] = ..., version: _Optional[str] = ..., clock: _Optional[float] = ...) -> None: ...

class Part(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: Header
    chunk: bytes
    def __init__(self, header: _Optional[_Union[Header, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class Header(_message.Message):
    __slots__ = ("body", "signature")
    BODY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    signature: bytes
    def __init__(self, body: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
