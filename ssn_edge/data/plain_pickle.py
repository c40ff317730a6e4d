"""Pickles of plain data, read so that nothing in them can run.

Two published data sets keep their splits as Python pickles. A pickle may name any function and have
it called; this reader knows numbers, texts and sequences of them, and NumPy's integers, flags and
arrays by stand-ins of its own. Everything else is refused before it is looked up.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ssn_edge_runtime.errors import DatasetError

MAX_BYTES = 16 << 20
"""The published split files have some kilobytes."""
MAX_VALUES = 1_000_000
"""Values that a file may stand for: references let a short file unfold without end."""

_INTEGER_CODES = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"})
_BYTE_ORDERS = frozenset("<>=|")


def read_plain_pickle(file: Path) -> object:
    """Read a pickle of numbers, texts and sequences.

    Returns:
        None, bool, int, float, str, or lists of those; tuples, sets and arrays become lists.

    Raises:
        DatasetError: Unreadable, damaged, too large, or with anything else in it. Nothing ran.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DatasetError(f"{file}: cannot be read ({error.strerror})") from error
    if len(data) > MAX_BYTES:
        raise DatasetError(
            f"{file}: has {len(data)} bytes, a split file at most {MAX_BYTES}; get it from the "
            "data set's own download"
        )
    try:
        _check_memo(data)
        return _plain(_PlainUnpickler(io.BytesIO(data)).load(), [MAX_VALUES])
    except Exception as error:  # damaged bytes lead the unpickler to errors of many types
        raise DatasetError(
            f"{file}: is not a plain split file ({error or type(error).__name__}); only numbers, "
            "texts and lists of them are read, nothing in it ran. Get it from the data set's own "
            "download"
        ) from error


def _check_memo(data: bytes) -> None:
    """Refuse a place in the memo that no file of this size needs: all up to it is allocated."""
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name not in ("PUT", "BINPUT", "LONG_BINPUT"):
            continue
        if argument is not None and int(argument) > len(data):
            raise pickle.UnpicklingError(f"it asks for {argument} places of memory")


class _PlainUnpickler(pickle.Unpickler):
    """Looks nothing up: a name becomes a stand-in of ours, or an error."""

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        """The stand-in for a name, made anew: what a file does to it ends with the file."""
        module = module.replace("numpy._core", "numpy.core")
        match f"{module}.{name}":
            case "numpy.dtype":
                return lambda code, *flags: _Dtype(code)
            case "numpy.ndarray":
                return lambda: None  # named as an argument of _reconstruct only
            case "numpy.core.multiarray.scalar":
                return lambda dtype, data: dtype.numbers(data, ())
            case "numpy.core.multiarray._reconstruct":
                return lambda *kind: _Array()
            case "numpy.core.numeric._frombuffer":
                return lambda data, dtype, shape, order: dtype.numbers(data, shape, order)
        raise pickle.UnpicklingError(f"it names {module}.{name}")


class _Dtype:
    """A NumPy type of whole numbers or flags, read from its pickled state."""

    __slots__ = ("_code", "_order")

    def __init__(self, code: object) -> None:
        if not isinstance(code, str) or code not in _INTEGER_CODES:
            raise pickle.UnpicklingError(f"it holds values of the NumPy type {code!r}")
        self._code = code
        self._order = "="

    def __setstate__(self, state: tuple[object, ...]) -> None:
        order = state[1]
        if not isinstance(order, str) or order not in _BYTE_ORDERS:
            raise pickle.UnpicklingError(f"it holds the byte order {order!r}")
        self._order = order

    def numbers(self, data: bytes, shape: tuple[int, ...], order: str = "C") -> object:
        """Bytes as a Python number, or nested lists of numbers."""
        kind = np.dtype(self._order + self._code)
        if len(data) != kind.itemsize * math.prod(shape):
            raise pickle.UnpicklingError(f"it holds {len(data)} bytes for the shape {shape}")
        values = np.frombuffer(bytes(data), kind)
        return values.reshape(shape, order="F" if order == "F" else "C").tolist()


class _Array:
    """A NumPy array, read from its pickled state."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: object = None

    def __setstate__(self, state: tuple[object, tuple[int, ...], _Dtype, bool, bytes]) -> None:
        _, shape, dtype, is_fortran, data = state
        self.values = dtype.numbers(data, shape, "F" if is_fortran else "C")


def _plain(value: object, left: list[int]) -> object:
    """A copy of lists and plain values alone; `left` counts down the values that are allowed."""
    left[0] -= 1
    if left[0] < 0:
        raise pickle.UnpicklingError(f"it holds more than {MAX_VALUES} values")
    if isinstance(value, _Array):
        value = value.values
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(each, left) for each in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise pickle.UnpicklingError(f"it holds a {type(value).__name__}")
