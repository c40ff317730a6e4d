"""A look into an ONNX file, without onnx: does it keep to itself?

A graph may name weights in other files, and operators of other libraries. Neither is covered by the
package's hashes, so both are refused before an engine sees the file. This walks protobuf's wire
format: of a message it opens only what can lead to a tensor or a node, and skips weights unread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ssn_edge_runtime.errors import PackageError

MAX_DEPTH = 64
"""Messages within messages; a subgraph takes three, and real graphs have no more than four deep."""
MAX_FIELDS = 4_000_000
"""Over the whole file; more means weights stored one number at a time."""

OWN_DOMAINS = (b"", b"ai.onnx")
"""The standard's own operators, by both of their names."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_ORT_FORMAT = b"ORTM"

_Value = int | memoryview
_Visit = Callable[["_Scan", _Value, int], None]


def check_onnx(data: bytes, name: str) -> None:
    """Refuse an ONNX file that needs more than itself and the standard's operators.

    Args:
        data: The file's bytes, a ModelProto.
        name: What an error calls the file.

    Raises:
        PackageError: Weights outside of the file, an operator domain other than ONNX's own, model
            functions, training graphs, or not a well-formed ONNX file.
    """
    try:
        if data[4:8] == _ORT_FORMAT:
            # ONNX Runtime would read it as its own format, and our walk would have seen another.
            raise _RefusedError("is in ONNX Runtime's own format")
        scan = _Scan()
        scan.message(memoryview(data), _MODEL, 0)
        if not scan.graphs:
            raise _RefusedError("holds no graph")
    except _RefusedError as error:
        raise PackageError(
            f"{name} {error}; a self-contained ONNX model is needed, export the package again"
        ) from error


class _RefusedError(Exception):
    """What is wrong with the file, without its name."""


class _Scan:
    """One walk over a file, with the counts that bound it."""

    def __init__(self) -> None:
        self.graphs = 0
        self._fields = 0

    def message(
        self, data: memoryview, fields: Mapping[int, tuple[int, _Visit]], depth: int
    ) -> None:
        """Visit the known fields of a message; protobuf takes unknown ones, so they are skipped."""
        if depth > MAX_DEPTH:
            raise _RefusedError("is nested too deeply")
        for number, wire_type, value in _wire_fields(data):
            self._fields += 1
            if self._fields > MAX_FIELDS:
                raise _RefusedError("has too many fields")
            known = fields.get(number)
            if known is None:
                continue
            if wire_type != known[0]:
                raise _RefusedError("is not well-formed protobuf of ONNX")
            known[1](self, value, depth)


def _wire_fields(data: memoryview) -> Iterator[tuple[int, int, _Value]]:
    """Field number, wire type and value of each field of a message."""
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        number, wire_type = tag >> 3, tag & 7
        if tag >= 2**32 or number == 0:  # a longer tag is read differently by different readers
            raise _RefusedError("is not well-formed protobuf")
        value: _Value = 0
        if wire_type == _VARINT:
            value, position = _varint(data, position)
        elif wire_type == _BYTES:
            length, position = _varint(data, position)
            value = data[position : position + length]
            position += length
        elif wire_type in (_FIXED64, _FIXED32):
            position += 8 if wire_type == _FIXED64 else 4
        else:
            raise _RefusedError("is not well-formed protobuf")
        if position > end:
            raise _RefusedError("is cut short")
        yield number, wire_type, value


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise _RefusedError("is cut short" if shift < 70 else "is not well-formed protobuf")


def _inside(fields: Mapping[int, tuple[int, _Visit]]) -> tuple[int, _Visit]:
    def visit(scan: _Scan, value: _Value, depth: int) -> None:
        assert isinstance(value, memoryview)
        scan.message(value, fields, depth + 1)

    return _BYTES, visit


def _refuse(what: str, wire_type: int = _BYTES) -> tuple[int, _Visit]:
    def visit(_scan: _Scan, _value: _Value, _depth: int) -> None:
        raise _RefusedError(what)

    return wire_type, visit


def _domain(_scan: _Scan, value: _Value, _depth: int) -> None:
    assert isinstance(value, memoryview)
    domain = bytes(value[:100])
    if domain not in OWN_DOMAINS:
        raise _RefusedError(
            f"uses the operator domain {domain.decode('ascii', 'backslashreplace')!r}"
        )


def _data_location(_scan: _Scan, value: _Value, _depth: int) -> None:
    if value != 0:  # a reader may cut a large number down to 1, which is EXTERNAL
        raise _RefusedError(_EXTERNAL)


def _graph(scan: _Scan, value: _Value, depth: int) -> None:
    assert isinstance(value, memoryview)
    scan.graphs += 1
    scan.message(value, _GRAPH, depth + 1)


_EXTERNAL = "keeps weights in another file"

# Field numbers as in onnx.proto, IR version 3 to 13.
_TENSOR = {13: _refuse(_EXTERNAL), 14: (_VARINT, _data_location)}
_SPARSE_TENSOR = {1: _inside(_TENSOR), 2: _inside(_TENSOR)}
_ATTRIBUTE = {
    5: _inside(_TENSOR),
    6: (_BYTES, _graph),
    10: _inside(_TENSOR),
    11: (_BYTES, _graph),
    22: _inside(_SPARSE_TENSOR),
    23: _inside(_SPARSE_TENSOR),
}
_NODE = {5: _inside(_ATTRIBUTE), 7: (_BYTES, _domain)}
_GRAPH = {1: _inside(_NODE), 5: _inside(_TENSOR), 15: _inside(_SPARSE_TENSOR)}
_OPERATOR_SET = {1: (_BYTES, _domain)}
_MODEL = {
    7: (_BYTES, _graph),
    8: _inside(_OPERATOR_SET),
    20: _refuse("holds a training graph"),
    25: _refuse("holds functions of its own"),
}
