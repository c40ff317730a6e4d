"""Split files are pickles from elsewhere: plain numbers are read, everything else is refused."""

from __future__ import annotations

import os
import pickle
import pickletools
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ssn_edge.data.plain_pickle import MAX_BYTES, read_plain_pickle
from ssn_edge_runtime.errors import DatasetError

PAIRS = [(10000, True), (10001, False)]


class Evil:
    """Pickles to a call that leaves a trace."""

    def __init__(self, function: object, *arguments: object) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self._call


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return tmp_path / "split.pyb"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_lists_of_numbers_flags_and_texts_are_read_in_every_protocol(
    written: Path, protocol: int
) -> None:
    content = (PAIRS, [("abc", None, 1.5, -(2**70))])
    written.write_bytes(pickle.dumps(content, protocol=protocol))
    assert read_plain_pickle(written) == [
        [[10000, True], [10001, False]],
        [["abc", None, 1.5, -(2**70)]],
    ]


def test_a_set_becomes_a_list(written: Path) -> None:
    written.write_bytes(pickle.dumps({7}, protocol=4))
    assert read_plain_pickle(written) == [7]


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_numpy_numbers_and_arrays_become_python_numbers(
    written: Path, protocol: int, kind: type[np.integer]
) -> None:
    content = (
        [(kind(7), np.bool_(True)), (kind(8), np.False_)],
        np.array([[1, 0], [2, 1], [3, 0]], dtype=kind),
        np.asfortranarray(np.array([[1, 0], [2, 1]], dtype=np.dtype(kind).newbyteorder(">"))),
    )
    written.write_bytes(pickle.dumps(content, protocol=protocol))
    found = read_plain_pickle(written)
    assert found == [[[7, True], [8, False]], [[1, 0], [2, 1], [3, 0]], [[1, 0], [2, 1]]]
    assert all(type(each) is int for each in _leaves(found) if each not in (True, False))


def test_the_older_name_of_numpys_rooms_is_known_as_well(written: Path) -> None:
    data = pickle.dumps([np.int64(5)], protocol=3)
    written.write_bytes(data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_plain_pickle(written) == [5]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "call",
    [
        (os.system, "touch {}"),
        (eval, "open({!r}, 'w')"),
        (exec, "open({!r}, 'w')"),
        (Path.touch, Path("{}")),
        (subprocess.call, ["touch", "{}"]),
        (getattr, os, "system"),
    ],
    ids=lambda call: call[0].__qualname__,
)
def test_a_pickle_that_calls_something_is_refused_and_runs_nothing(
    written: Path, tmp_path: Path, call: tuple[object, ...], protocol: int
) -> None:
    trace = tmp_path / "trace"
    function, *arguments = call
    if arguments[0] is os:
        evil = b"cbuiltins\ngetattr\n(cos\nos\nVsystem\ntR."
    else:
        filled = [_filled(each, trace) for each in arguments]
        evil = pickle.dumps([*PAIRS, Evil(function, *filled)], protocol=protocol)
    written.write_bytes(evil)
    with pytest.raises(DatasetError, match=r"split\.pyb: is not a plain split file .it names "):
        read_plain_pickle(written)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (pickle.dumps(np.array([object()], dtype=object)), "NumPy type 'O8'"),
        (pickle.dumps(np.array([1.5])), "NumPy type 'f8'"),
        (pickle.dumps(np.array([(1, 2)], dtype=[("a", "i8"), ("b", "O")])), "NumPy type 'V16'"),
        (pickle.dumps({"train": PAIRS}), "holds a dict"),
        (pickle.dumps(b"abc"), "holds a bytes"),
        (pickle.dumps(range(3)), "names builtins.range"),
        (b"\x80\x04\x82\x01.", "opcode|extension|code"),
        (b"\x80\x02r\xff\xff\xff\xff.", "places of memory"),
        (b"", "split.pyb"),
        (b"no pickle at all", "split.pyb"),
        (pickle.dumps(PAIRS)[:-4], "split.pyb"),
    ],
    ids=["objects", "floats", "records", "dict", "bytes", "range", "extension", "memo",
         "empty", "text", "cut"],
)  # fmt: skip
def test_anything_but_plain_numbers_and_texts_is_refused(
    written: Path, data: bytes, words: str
) -> None:
    written.write_bytes(data)
    with pytest.raises(DatasetError, match=words):
        read_plain_pickle(written)


def test_a_stand_in_that_a_file_alters_is_whole_again_for_the_next_file(written: Path) -> None:
    """BUILD may set attributes of whatever a name stands for."""
    scalar = b"cnumpy.core.multiarray\nscalar\n"
    written.write_bytes(b"(l" + scalar + b"(N(dVevil\nI1\nstbI1\na.")
    with pytest.raises(DatasetError):
        read_plain_pickle(written)
    written.write_bytes(pickle.dumps([np.int64(5)]))
    assert read_plain_pickle(written) == [5]


def test_a_short_file_that_unfolds_without_end_is_refused(written: Path) -> None:
    content: list[object] = [0]
    for _ in range(30):
        content = [content] * 10
    written.write_bytes(pickletools.optimize(pickle.dumps(content)))
    assert written.stat().st_size < 1000
    with pytest.raises(DatasetError, match="more than 1000000 values"):
        read_plain_pickle(written)


def test_a_list_that_holds_itself_is_refused(written: Path) -> None:
    content: list[object] = []
    content.append(content)
    written.write_bytes(pickle.dumps(content))
    with pytest.raises(DatasetError, match="recursion"):
        read_plain_pickle(written)


def test_a_file_far_beyond_a_split_is_not_even_decoded(written: Path) -> None:
    with written.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(DatasetError, match="a split file at most"):
        read_plain_pickle(written)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        read_plain_pickle(tmp_path / "lost.pckl")


def _filled(argument: object, trace: Path) -> object:
    if isinstance(argument, list):
        return [_filled(each, trace) for each in argument]
    return type(argument)(str(argument).format(str(trace)))  # type: ignore[call-arg]


def _leaves(value: object) -> list[object]:
    if isinstance(value, list):
        return [leaf for each in value for leaf in _leaves(each)]
    return [value]
