"""A package is one file, whole, canonical and unchanged; whatever else is refused."""

from __future__ import annotations

import hashlib
import io
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ssn_edge_export.package_writer import write_package
from ssn_edge_runtime import archive, package
from ssn_edge_runtime.archive import ArchiveEntry
from ssn_edge_runtime.engines.fake import FakeEngine
from ssn_edge_runtime.errors import ExportError, PackageError, SsnEdgeError, StorageError
from ssn_edge_runtime.manifest import EntryDigest, Manifest
from ssn_edge_runtime.manifest_json import manifest_to_dict
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.self_test import check_golden
from ssn_edge_runtime.strict_json import canonical_json

Contents = tuple[Manifest, Mapping[str, bytes]]

MANY = settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def stored(contents: list[tuple[str, bytes]]) -> bytes:
    """An archive in the right form, whatever it holds."""
    body, directory = b"", b""
    for name, data in contents:
        entry = ArchiveEntry(name, len(data), zlib.crc32(data), len(body))
        body += archive.local_header(entry) + data
        directory += archive.directory_record(entry)
    return body + directory + archive.end_record(len(contents), len(directory), len(body))


def all_contents(contents: Contents, **digests: EntryDigest) -> list[tuple[str, bytes]]:
    """Every entry in order, with the manifest that lists them; `digests` falsify it."""
    manifest, entries = contents
    true = {
        name: EntryDigest(len(data), hashlib.sha256(data).hexdigest())
        for name, data in entries.items()
    }
    data = canonical_json(manifest_to_dict(replace(manifest, entries=true | digests)))
    return [("manifest.json", data), *sorted(entries.items())]


@pytest.fixture
def refused(tmp_path: Path) -> Callable[[bytes], str]:
    """Check that these bytes are refused as a package, in one line, and give the message."""

    def check(data: bytes) -> str:
        path = tmp_path / "refused.ssn"
        path.write_bytes(data)
        with pytest.raises(PackageError) as caught:
            Package.open(path).close()
        message = str(caught.value)
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
        return message

    return check


def rewritten(data: bytes, **options: object) -> bytes:
    """The package's content as another zip tool writes it."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.infolist():
            info = zipfile.ZipInfo(item.filename)
            info.external_attr, info.create_system = item.external_attr, 3
            for name, value in options.items():
                setattr(info, name, value)
            new.writestr(info, old.read(item), compress_type=info.compress_type)
    return target.getvalue()


def test_a_package_gives_back_what_was_written(
    package_path: Path, package_contents: Contents
) -> None:
    manifest, entries = package_contents
    with Package.open(str(package_path)) as opened:
        assert opened.path == package_path
        assert replace(opened.manifest, entries={}) == manifest
        assert {name: opened.read(name) for name in opened.manifest.entries} == entries
        assert opened.package_id == hashlib.sha256(opened.read("manifest.json")).hexdigest()


def test_any_zip_tool_reads_a_package(package_path: Path, package_contents: Contents) -> None:
    with zipfile.ZipFile(package_path) as opened:
        assert opened.testzip() is None
        assert opened.namelist() == ["manifest.json", *sorted(package_contents[1])]
        assert {item.compress_type for item in opened.infolist()} == {zipfile.ZIP_STORED}


def test_the_standard_library_writes_the_same_form(package_path: Path) -> None:
    data = package_path.read_bytes()
    assert rewritten(data) == data


@MANY
@given(data=st.data())
def test_a_changed_byte_anywhere_is_refused(
    data: st.DataObject, package_path: Path, refused: Callable[[bytes], str]
) -> None:
    changed = bytearray(package_path.read_bytes())
    position = data.draw(st.integers(0, len(changed) - 1))
    changed[position] ^= data.draw(st.integers(1, 255))
    refused(bytes(changed))


def test_a_changed_header_byte_is_refused_wherever_it_is(
    package_path: Path, refused: Callable[[bytes], str]
) -> None:
    data = package_path.read_bytes()
    with zipfile.ZipFile(package_path) as opened:
        headers = [
            position
            for item in opened.infolist()
            for position in range(item.header_offset, item.header_offset + 30 + len(item.filename))
        ]
        headers += range(opened.start_dir, len(data))
    for position in headers:
        changed = bytearray(data)
        changed[position] ^= 0x01
        refused(bytes(changed))


@MANY
@given(data=st.data())
def test_inserted_bytes_anywhere_are_refused(
    data: st.DataObject, package_path: Path, refused: Callable[[bytes], str]
) -> None:
    whole = package_path.read_bytes()
    position = data.draw(st.integers(0, len(whole)))
    inserted = data.draw(st.binary(min_size=1, max_size=40))
    refused(whole[:position] + inserted + whole[position:])


@MANY
@given(data=st.data())
def test_cut_bytes_anywhere_are_refused(
    data: st.DataObject, package_path: Path, refused: Callable[[bytes], str]
) -> None:
    whole = package_path.read_bytes()
    start = data.draw(st.integers(0, len(whole) - 1))
    end = data.draw(st.one_of(st.just(len(whole)), st.integers(start + 1, len(whole))))
    refused(whole[:start] + whole[end:])


@MANY
@given(data=st.binary(max_size=200))
@example(data=b"PK\x03\x04")
@example(data=archive.end_record(0, 0, 0))
@example(data=archive.end_record(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF))
@example(data=b"PK\x03\x04" + archive.end_record(1, 0, 4))
@example(data=stored([("manifest.json", b"[" * 100_000)]))
@example(data=stored([("manifest.json", b'{"schema":1e999}')]))
def test_bytes_that_are_no_package_are_refused(
    data: bytes, refused: Callable[[bytes], str]
) -> None:
    refused(data)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.ssn", tmp_path):
        with pytest.raises(PackageError, match="cannot be opened"):
            Package.open(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compress_type": zipfile.ZIP_DEFLATED}, "is compressed"),
        ({"comment": b"hello"}, "has a comment"),
        ({"extra": struct.pack("<2H", 0xCAFE, 0)}, "has extra fields"),
        ({"date_time": (2026, 11, 22, 0, 0, 0)}, "not as exported"),
        ({"create_system": 0}, "not as exported"),
    ],
)
def test_a_rewritten_archive_is_refused(
    options: dict[str, object],
    message: str,
    package_path: Path,
    refused: Callable[[bytes], str],
) -> None:
    assert message in refused(rewritten(package_path.read_bytes(), **options))


@pytest.mark.parametrize(
    ("flags", "message"), [(0x1, "is encrypted"), (0x8, "has its size after its content")]
)
def test_an_encrypted_or_streamed_entry_is_refused(
    flags: int, message: str, package_path: Path, refused: Callable[[bytes], str]
) -> None:
    data = bytearray(package_path.read_bytes())
    with zipfile.ZipFile(package_path) as opened:
        data[opened.start_dir + 8] |= flags
    data[6] |= flags
    assert message in refused(bytes(data))


def test_an_archive_comment_is_refused(package_path: Path, refused: Callable[[bytes], str]) -> None:
    data = package_path.read_bytes()
    assert "comment" in refused(data[:-2] + struct.pack("<H", 5) + b"hello")


def test_a_zip64_end_is_refused(package_path: Path, refused: Callable[[bytes], str]) -> None:
    data = package_path.read_bytes()
    end = archive.end_record(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    zip64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, 1, 1)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(data) - 22, 1)
    refused(data[:-22] + zip64 + locator + end)


def test_a_local_header_with_another_name_is_refused(
    package_contents: Contents, refused: Callable[[bytes], str]
) -> None:
    data = stored(all_contents(package_contents))
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        name_at = opened.getinfo("models/fp32.onnx").header_offset + 30
    changed = data[:name_at] + b"models/int8.onnx" + data[name_at + 16 :]
    assert "header of models/fp32.onnx disagrees" in refused(changed)


def test_an_unlisted_entry_is_refused(
    package_contents: Contents, refused: Callable[[bytes], str]
) -> None:
    contents = [*all_contents(package_contents), ("z.txt", b"")]
    assert "holds z.txt, which its manifest does not list" in refused(stored(contents))


def test_a_missing_entry_is_refused(
    package_contents: Contents, refused: Callable[[bytes], str]
) -> None:
    contents = [item for item in all_contents(package_contents) if item[0] != "golden/000.png"]
    assert "lacks golden/000.png" in refused(stored(contents))


def test_a_duplicate_entry_is_refused(
    package_contents: Contents, refused: Callable[[bytes], str]
) -> None:
    contents = all_contents(package_contents)
    assert "holds models/fp32.onnx 2 times" in refused(stored([*contents, contents[-1]]))


def test_entries_in_another_order_are_refused(
    package_contents: Contents, refused: Callable[[bytes], str]
) -> None:
    first, *others = all_contents(package_contents)
    assert "alphabetical" in refused(stored([first, *reversed(others)]))
    assert "first entry is not manifest.json" in refused(stored([*others, first]))


@pytest.mark.parametrize("name", ["../x", "/x", "a/../x", "a\\x", "A", "a//x", "a/b/c", ".x", "a "])
def test_a_name_that_could_lead_elsewhere_is_refused(
    name: str, package_contents: Contents, refused: Callable[[bytes], str]
) -> None:
    manifest, entries = package_contents
    contents = all_contents((manifest, {**entries, name: b""}))
    assert f"{name!r} is not a name that an entry may have" in refused(stored(contents))


def test_an_entry_that_is_not_the_one_in_the_manifest_is_refused(
    package_contents: Contents, refused: Callable[[bytes], str]
) -> None:
    name = "golden/000.png"
    size = len(package_contents[1][name])
    other = all_contents(package_contents, **{name: EntryDigest(size, "0" * 64)})
    assert f"{name} was changed after the export" in refused(stored(other))
    larger = all_contents(package_contents, **{name: EntryDigest(size - 1, "0" * 64)})
    assert f"its manifest states {size - 1}" in refused(stored(larger))


def test_an_unknown_schema_is_refused(
    package_contents: Contents, refused: Callable[[bytes], str]
) -> None:
    manifest, entries = package_contents
    contents = all_contents((replace(manifest, schema=4), entries))
    assert "has schema 4, this ssn-edge reads 3" in refused(stored(contents))


@pytest.mark.parametrize("schema", ["x" * 100_000, "\x1b[2J\u2028", [[1] * 10_000]])
def test_a_refusal_is_one_short_line_whatever_the_package_says(
    schema: object, package_contents: Contents, refused: Callable[[bytes], str]
) -> None:
    data = canonical_json({"schema": schema})
    message = refused(stored([("manifest.json", data), *all_contents(package_contents)[1:]]))
    assert "has schema" in message
    assert message.isprintable()
    assert len(message) < 1000


def test_a_model_that_needs_other_files_is_refused(
    package_contents: Contents,
    tiny_model: Callable[..., onnx.ModelProto],
    refused: Callable[[bytes], str],
) -> None:
    model = tiny_model()
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    manifest, entries = package_contents
    changed = {**entries, "models/fp32.onnx": model.SerializeToString()}
    assert "keeps weights in another file" in refused(stored(all_contents((manifest, changed))))


def test_a_model_with_operators_of_another_library_is_refused(
    package_contents: Contents,
    tiny_model: Callable[..., onnx.ModelProto],
    refused: Callable[[bytes], str],
) -> None:
    model = tiny_model()
    model.graph.node[0].domain = "com.example"
    manifest, entries = package_contents
    changed = {**entries, "models/fp32.onnx": model.SerializeToString()}
    assert "operator domain 'com.example'" in refused(stored(all_contents((manifest, changed))))


def test_a_pickle_under_any_name_is_never_run(
    package_contents: Contents, tmp_path: Path, refused: Callable[[bytes], str]
) -> None:
    trap = tmp_path / "trap"
    data = b"cos\nsystem\n(S'touch %b'\ntR." % str(trap).encode()
    manifest, entries = package_contents
    for name in entries:
        changed = {**entries, name: data}
        path = tmp_path / "pickle.ssn"
        path.write_bytes(stored(all_contents((manifest, changed))))
        try:
            with Package.open(path) as opened, pytest.raises(SsnEdgeError):
                check_golden(opened, FakeEngine(input_size_hw=(48, 64)), "fp32")
        except PackageError:
            assert name.endswith(".onnx")
    refused(stored([("manifest.json", data), *all_contents(package_contents)[1:]]))
    assert not trap.exists()


def test_a_signature_lies_outside_the_package_id(
    package_path: Path, package_contents: Contents, tmp_path: Path
) -> None:
    path = tmp_path / "signed.ssn"
    path.write_bytes(stored([*all_contents(package_contents), ("signature.json", b'{"a":1}')]))
    with Package.open(path) as signed, Package.open(package_path) as unsigned:
        assert signed.package_id == unsigned.package_id
        assert signed.read("signature.json") == b'{"a":1}'


def test_a_signature_is_last_and_small(
    package_contents: Contents, refused: Callable[[bytes], str]
) -> None:
    first, *others = all_contents(package_contents)
    assert "order" in refused(stored([first, ("signature.json", b"{}"), *others]))
    large = ("signature.json", bytes(package.MAX_SIGNATURE_BYTES + 1))
    assert "are the most" in refused(stored([first, *others, large]))


def test_limits_are_refused_before_anything_is_read(
    refused: Callable[[bytes], str], package_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = package_path.read_bytes()
    with monkeypatch.context() as limits:
        limits.setattr(archive, "MAX_ENTRIES", 2)
        assert "2 are the most" in refused(data)
    with monkeypatch.context() as limits:
        limits.setattr(archive, "MAX_ENTRY_BYTES", 100)
        assert "100 are the most" in refused(data)
    with monkeypatch.context() as limits:
        limits.setattr(package, "MAX_MANIFEST_BYTES", 100)
        assert "manifest.json has" in refused(data)
    with monkeypatch.context() as limits:
        limits.setattr(archive, "MAX_ARCHIVE_BYTES", 100)
        assert "100 are the most" in refused(data)


def test_a_change_after_opening_is_noticed_when_it_is_read(
    package_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "part.ssn"
    path.write_bytes(package_path.read_bytes())
    with Package.open(path) as opened, path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, io.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
        file.flush()
        refused = 0
        for name in opened.manifest.entries:
            try:
                opened.read(name)
            except PackageError as error:
                assert "is damaged" in str(error)  # noqa: PT017
                refused += 1
        assert refused == 1


def test_an_entry_that_is_not_there_is_an_error(package_path: Path) -> None:
    with Package.open(package_path) as opened, pytest.raises(PackageError, match="holds no x"):
        opened.read("x")


def test_a_closed_package_is_not_read(package_path: Path) -> None:
    opened = Package.open(package_path)
    opened.close()
    opened.close()
    with pytest.raises(RuntimeError, match="is closed"):
        opened.read("manifest.json")


def test_threads_read_at_once(package_path: Path, package_contents: Contents) -> None:
    wrong: list[str] = []
    with Package.open(package_path) as opened:

        def read_all() -> None:
            for name, data in list(package_contents[1].items()) * 20:
                if opened.read(name) != data:
                    wrong.append(name)

        threads = [threading.Thread(target=read_all) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
    assert not wrong


def test_the_same_content_gives_the_same_bytes(package_contents: Contents, tmp_path: Path) -> None:
    manifest, entries = package_contents
    ids = [
        write_package(tmp_path / "a.ssn", manifest, entries),
        write_package(tmp_path / "b.ssn", manifest, dict(reversed(list(entries.items())))),
    ]
    assert ids[0] == ids[1]
    assert (tmp_path / "a.ssn").read_bytes() == (tmp_path / "b.ssn").read_bytes()


def test_what_a_controller_would_refuse_is_not_written(
    package_contents: Contents, tmp_path: Path
) -> None:
    manifest, entries = package_contents
    path = tmp_path / "part.ssn"
    path.write_bytes(b"the package of yesterday")
    lacking = {name: data for name, data in entries.items() if name != "golden/000.png"}
    with pytest.raises(ExportError, match="which is not among its entries"):
        write_package(path, manifest, lacking)
    with pytest.raises(ExportError, match="not ASCII"):
        write_package(path, manifest, {**entries, "\u00e9": b""})
    assert [each.name for each in tmp_path.iterdir()] == ["part.ssn"]
    assert path.read_bytes() == b"the package of yesterday"


def test_a_folder_that_cannot_be_written_is_a_storage_error(
    package_contents: Contents, tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        write_package(tmp_path / "absent" / "part.ssn", *package_contents)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        write_package(tmp_path / "file" / "part.ssn", *package_contents)
