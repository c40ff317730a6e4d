"""Mutants of a package: bytes and structure, some made consistent again so that they get far in."""

from __future__ import annotations

import copy
import hashlib
import json
import zlib
from random import Random
from typing import Any

from ssn_edge_runtime import archive
from ssn_edge_runtime.archive import ArchiveEntry
from ssn_edge_runtime.strict_json import canonical_json

Contents = list[tuple[str, bytes]]
_ODD_BYTES = (b"", b"\x00", b"PK\x03\x04", b"PK\x05\x06", b"\xff" * 8, b"\x80" * 11, b"[" * 3000)
_ODD_NAMES = ("", "../x", "/x", "a" * 300, "signature.json", "manifest.json", "models/fp64.onnx",
              "golden/000.png", "A", "a//b", "a\nb", "models/fp32.onnx")  # fmt: skip
_ODD_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2**31, 2**63, 2**70, 10**400, 0.5, -0.0, 1e308, float("inf"),
    float("nan"), "", "x" * 5000, "\ud800", "\n", [], {}, [[]] * 50, "models/fp32.onnx", "0" * 64,
)  # fmt: skip


def contents_of(data: bytes) -> Contents:
    """What a sound package holds."""
    import io

    file = io.BytesIO(data)
    return [
        (each.name, data[each.data_offset : each.end_offset])
        for each in archive.read_directory(file)
    ]


def stored(contents: Contents) -> bytes:
    """An archive in the right form, whatever it holds and is named."""
    body, directory = bytearray(), b""
    for name, data in contents:
        entry = ArchiveEntry(name, len(data), zlib.crc32(data), len(body))
        body += archive.local_header(entry) + data
        directory += archive.directory_record(entry)
    return bytes(body) + directory + archive.end_record(len(contents), len(directory), len(body))


def sealed(contents: Contents) -> bytes:
    """The same with a manifest that states every other entry as it is, where it can be read."""
    contents = list(contents)
    try:
        document = json.loads(dict(contents)["manifest.json"])
        document["entries"] = {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in contents
            if name not in ("manifest.json", "signature.json")
        }
        manifest = canonical_json(document)
        contents = [
            (name, manifest if name == "manifest.json" else data) for name, data in contents
        ]
    except (KeyError, TypeError, ValueError, RecursionError):
        pass
    return stored(contents)


def mutant(random: Random, data: bytes, contents: Contents) -> bytes:
    """One mutant; the same of the same state of `random`."""
    try:
        return random.choice(_MUTATIONS)(random, data, contents)
    except (UnicodeError, ValueError, OverflowError):
        return _bytes_changed(random, data)  # a name or number that no archive can hold


def _bytes_changed(random: Random, data: bytes) -> bytes:
    """Flips, cuts, copies and insertions, as anything may do to a file."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8))):
        at = random.randrange(len(changed) + 1)
        kind = random.randrange(5)
        if kind == 0 and at < len(changed):
            changed[at] = random.randrange(256)
        elif kind == 1:
            changed[at:at] = random.choice(_ODD_BYTES)
        elif kind == 2:
            del changed[at : at + random.choice((1, 4, 100, 10**9))]
        elif kind == 3:
            start = random.randrange(len(changed) + 1)
            changed[at:at] = changed[start : start + random.choice((1, 30, 1000))]
        else:
            changed[at : at + 4] = random.randbytes(4)
    return bytes(changed)


def _headers_changed(random: Random, data: bytes, _contents: Contents) -> bytes:
    """A number of the directory or of the end: counts, sizes, offsets."""
    changed = bytearray(data)
    directory_at = int.from_bytes(data[-6:-2], "little")
    for _ in range(random.choice((1, 2, 3))):
        at = random.randrange(directory_at, len(data))
        width = random.choice((1, 2, 4))
        numbers = (0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, random.getrandbits(32))
        number = random.choice(numbers)
        changed[at : at + width] = number.to_bytes(4, "little")[:width]
    return bytes(changed)


def _entry_changed(random: Random, _data: bytes, contents: Contents) -> bytes:
    """Another content under a name, hashed anew: what its own reader makes of it."""
    contents = list(contents)
    at = random.randrange(1, len(contents))
    name, data = contents[at]
    contents[at] = (name, _bytes_changed(random, data or b"\x00"))
    return sealed(contents)


def _model_changed(random: Random, _data: bytes, contents: Contents) -> bytes:
    """A model of other bytes, hashed anew: it reaches the look into ONNX."""
    changed: Contents = []
    for name, data in contents:
        if name.endswith(".onnx"):
            model = bytearray(_bytes_changed(random, data))
            for _ in range(random.randrange(4)):  # tags and lengths, at the front of messages
                if model:
                    at = random.randrange(min(len(model), 400))
                    model[at] = random.choice((0, 0x0A, 0x12, 0x2A, 0x3A, 0x7F, 0x80, 0xFF))
            data = bytes(model)
            if random.randrange(20) == 0:
                data = _nested(random.choice((3, 64, 70, 5000)))
        changed.append((name, data))
    return sealed(changed)


def _nested(depth: int) -> bytes:
    """A graph within an attribute within a node within a graph..."""
    inner = b""
    for _ in range(depth):
        for tag in (0x32, 0x2A, 0x0A):  # attribute.g, node.attribute, graph.node
            inner = bytes([tag]) + _varint(len(inner)) + inner
    return b"\x3a" + _varint(len(inner)) + inner


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _structure_changed(random: Random, _data: bytes, contents: Contents) -> bytes:
    """Entries doubled, dropped, moved, renamed, added; hashed anew or not."""
    contents = list(contents)
    for _ in range(random.choice((1, 2))):
        at = random.randrange(len(contents))
        kind = random.randrange(5)
        if kind == 0:
            contents.insert(random.randrange(len(contents) + 1), contents[at])
        elif kind == 1 and len(contents) > 1:
            del contents[at]
        elif kind == 2:
            contents.insert(random.randrange(len(contents)), contents.pop(at))
        elif kind == 3:
            contents[at] = (random.choice(_ODD_NAMES), contents[at][1])
        else:
            name = random.choice(_ODD_NAMES)
            contents.append((name, random.choice((*_ODD_BYTES, b"{}"))))
    return random.choice((stored, sealed))(contents)


def _manifest_changed(random: Random, _data: bytes, contents: Contents) -> bytes:
    """One value of the manifest, or a field more or less, in canonical form again."""
    document = copy.deepcopy(json.loads(contents[0][1]))
    for _ in range(random.choice((1, 1, 2))):
        holder: Any = document
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = random.choice(keys)
            child = holder[key]
            if isinstance(child, (dict, list)) and child and random.randrange(4):
                holder = child
                continue
            kind = random.randrange(6)
            if kind == 0:
                del holder[key]
            elif kind == 1 and isinstance(holder, dict):
                holder[random.choice((*_ODD_NAMES, "schemas"))] = child
            elif kind == 2 and isinstance(holder, list):
                holder.extend([child] * random.choice((1, 1000)))
            else:
                holder[key] = random.choice(_ODD_VALUES)
            break
    try:
        data = canonical_json(document)
    except (ValueError, UnicodeError):
        data = json.dumps(document).encode()  # NaN, infinity, lone surrogates
    return stored([("manifest.json", data), *contents[1:]])


def _signature_changed(random: Random, _data: bytes, contents: Contents) -> bytes:
    """What a signature file may hold, of which no hash says anything."""
    own = [each for each in contents if each[0] != "signature.json"]
    now = dict(contents).get("signature.json", b'{"schema":1,"signatures":[]}')
    if random.randrange(2):
        return stored([*own, ("signature.json", _bytes_changed(random, now))])
    try:
        document = json.loads(now)
        for each in document["signatures"]:
            each[random.choice(list(each))] = random.choice(_ODD_VALUES)
        if random.randrange(4) == 0:
            document["signatures"] *= random.choice((0, 2, 17, 300))
        now = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, KeyError, TypeError):
        now = random.choice(_ODD_BYTES)
    return stored([*own, ("signature.json", now)])


_MUTATIONS = (
    lambda random, data, _contents: _bytes_changed(random, data),
    _headers_changed,
    _entry_changed,
    _model_changed,
    _model_changed,
    _structure_changed,
    _manifest_changed,
    _manifest_changed,
    _signature_changed,
)
