from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class JoinRequest(_message.Message):
    __slots__ = ("request", "update_key", "log_key", "update_proof", "log_proof", "witness_key", "witness_proof")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    UPDATE_KEY_FIELD_NUMBER: _ClassVar[int]
    LOG_KEY_FIELD_NUMBER: _ClassVar[int]
    UPDATE_PROOF_FIELD_NUMBER: _ClassVar[int]
    LOG_PROOF_FIELD_NUMBER: _ClassVar[int]
    WITNESS_KEY_FIELD_NUMBER: _ClassVar[int]
    WITNESS_PROOF_FIELD_NUMBER: _ClassVar[int]
    request: bytes
    update_key: bytes
    log_key: bytes
    update_proof: bytes
    log_proof: bytes
    witness_key: bytes
    witness_proof: bytes
    def __init__(self, request: _Optional[bytes] = ..., update_key: _Optional[bytes] = ..., log_key: _Optional[bytes] = ..., update_proof: _Optional[bytes] = ..., log_proof: _Optional[bytes] = ..., witness_key: _Optional[bytes] = ..., witness_proof: _Optional[bytes] = ...) -> None: ...

class JoinReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CollectRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CollectReply(_message.Message):
    __slots__ = ("certificate",)
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    def __init__(self, certificate: _Optional[bytes] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("request", "signature")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    request: bytes
    signature: bytes
    def __init__(self, request: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class RenewReply(_message.Message):
    __slots__ = ("certificate",)
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    def __init__(self, certificate: _Optional[bytes] = ...) -> None: ...

class CheckRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CheckReply(_message.Message):
    __slots__ = ("time", "version", "addresses")
    TIME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    time: float
    version: str
    addresses: bytes
    def __init__(self, time: _Optional[float] = ..., version: _Optional[str] = ..., addresses: _Optional[bytes] = ...) -> None: ...
