from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PeersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Peer(_message.Message):
    __slots__ = ("outlet", "witness_key", "log_key")
    OUTLET_FIELD_NUMBER: _ClassVar[int]
    WITNESS_KEY_FIELD_NUMBER: _ClassVar[int]
    LOG_KEY_FIELD_NUMBER: _ClassVar[int]
    outlet: str
    witness_key: str
    log_key: str
    def __init__(self, outlet: _Optional[str] = ..., witness_key: _Optional[str] = ..., log_key: _Optional[str] = ...) -> None: ...

class PeersReply(_message.Message):
    __slots__ = ("peers",)
    PEERS_FIELD_NUMBER: _ClassVar[int]
    peers: _containers.RepeatedCompositeFieldContainer[Peer]
    def __init__(self, peers: _Optional[_Iterable[_Union[Peer, _Mapping]]] = ...) -> None: ...

class Held(_message.Message):
    __slots__ = ("origin", "size")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    origin: str
    size: int
    def __init__(self, origin: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class WaitRequest(_message.Message):
    __slots__ = ("held", "seen")
    HELD_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    held: _containers.RepeatedCompositeFieldContainer[Held]
    seen: int
    def __init__(self, held: _Optional[_Iterable[_Union[Held, _Mapping]]] = ..., seen: _Optional[int] = ...) -> None: ...

class WaitReply(_message.Message):
    __slots__ = ("requests", "change")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedScalarFieldContainer[bytes]
    change: int
    def __init__(self, requests: _Optional[_Iterable[bytes]] = ..., change: _Optional[int] = ...) -> None: ...

class AnswerRequest(_message.Message):
    __slots__ = ("origin", "size", "status", "body", "fork")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    FORK_FIELD_NUMBER: _ClassVar[int]
    origin: str
    size: int
    status: int
    body: bytes
    fork: bytes
    def __init__(self, origin: _Optional[str] = ..., size: _Optional[int] = ..., status: _Optional[int] = ..., body: _Optional[bytes] = ..., fork: _Optional[bytes] = ...) -> None: ...

class AnswerReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EntriesRequest(_message.Message):
    __slots__ = ("start",)
    START_FIELD_NUMBER: _ClassVar[int]
    start: int
    def __init__(self, start: _Optional[int] = ...) -> None: ...

class EntriesReply(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, entries: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ProveRequest(_message.Message):
    __slots__ = ("contract", "round")
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    contract: str
    round: int
    def __init__(self, contract: _Optional[str] = ..., round: _Optional[int] = ...) -> None: ...

class ProveReply(_message.Message):
    __slots__ = ("entry", "proof")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    entry: bytes
    proof: bytes
    def __init__(self, entry: _Optional[bytes] = ..., proof: _Optional[bytes] = ...) -> None: ...

class PublishPart(_message.Message):
    __slots__ = ("start", "checkpoint", "leaves")
    START_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    start: int
    checkpoint: bytes
    leaves: bytes
    def __init__(self, start: _Optional[int] = ..., checkpoint: _Optional[bytes] = ..., leaves: _Optional[bytes] = ...) -> None: ...

class PublishReply(_message.Message):
    __slots__ = ("size",)
    SIZE_FIELD_NUMBER: _ClassVar[int]
    size: int
    def __init__(self, size: _Optional[int] = ...) -> None: ...

class LeavesRequest(_message.Message):
    __slots__ = ("start",)
    START_FIELD_NUMBER: _ClassVar[int]
    start: int
    def __init__(self, start: _Optional[int] = ...) -> None: ...

class LeavesReply(_message.Message):
    __slots__ = ("leaves",)
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    leaves: bytes
    def __init__(self, leaves: _Optional[bytes] = ...) -> None: ...

class HeadRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HeadReply(_message.Message):
    __slots__ = ("size", "checkpoint")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    size: int
    checkpoint: bytes
    def __init__(self, size: _Optional[int] = ..., checkpoint: _Optional[bytes] = ...) -> None: ...
