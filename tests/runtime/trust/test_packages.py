"""A device that trusts keys takes what they signed, and nothing else, and nothing older."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssn_edge_export.signing import sign_package_file
from ssn_edge_runtime import Inspector, archive
from ssn_edge_runtime.archive import ArchiveEntry, read_directory
from ssn_edge_runtime.errors import ConfigError, PackageError, SignatureError
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.sinks import DeviceKey
from ssn_edge_runtime.trust import (
    PackageSignature,
    Trust,
    TrustState,
    sign_package,
    signatures_from_json,
    signatures_to_json,
)
from ssn_edge_runtime.trust.trusted_keys import TrustedKeys


def entries_of(path: Path) -> list[tuple[str, bytes]]:
    with path.open("rb") as file:
        listed = read_directory(file)
        found = []
        for each in listed:
            file.seek(each.data_offset)
            found.append((each.name, file.read(each.size_bytes)))
    return found


def put(path: Path, contents: list[tuple[str, bytes]]) -> None:
    """An archive in the right form, whatever it holds."""
    body, directory = b"", b""
    for name, data in contents:
        entry = ArchiveEntry(name, len(data), zlib.crc32(data), len(body))
        body += archive.local_header(entry) + data
        directory += archive.directory_record(entry)
    path.write_bytes(
        body + directory + archive.end_record(len(contents), len(directory), len(body))
    )


def with_signature(path: Path, data: bytes) -> None:
    put(path, [*(each for each in entries_of(path) if each[0] != "signature.json"),
               ("signature.json", data)])  # fmt: skip


def refusal(path: Path, trust: Trust) -> str:
    """Why it is refused: one line that begins with the file, exit code 3."""
    with pytest.raises(PackageError) as caught:
        Package.open(path, trust=trust).close()
    assert caught.value.exit_code == 3
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_a_signed_package_keeps_its_id_and_content_and_says_who_signed_it(
    signers: Any, own_package: Path, package_path: Path
) -> None:
    key = signers.make("release")
    (signature,) = sign_package_file(own_package, key, serial=7)
    assert entries_of(own_package)[:-1] == entries_of(package_path)
    with (
        Package.open(own_package, trust=signers.trust()) as signed,
        Package.open(package_path) as unsigned,
    ):
        assert signed.package_id == unsigned.package_id
        assert signed.signed_by is not None
        assert (signed.signed_by.name, signed.signed_by.serial) == ("release", 7)
        assert signed.signed_by.key_id == key.key_id == signature.key_id
        assert unsigned.signed_by is None


def test_signing_again_replaces_the_own_signature_and_keeps_that_of_another(
    signers: Any, own_package: Path
) -> None:
    old, new = signers.make("old"), signers.make("new")
    sign_package_file(own_package, old, serial=3)
    sign_package_file(own_package, new, serial=4)
    signatures = sign_package_file(own_package, new, serial=5)
    assert {each.key_id: each.serial for each in signatures} == {old.key_id: 3, new.key_id: 5}
    with Package.open(own_package, trust=signers.trust()) as package:
        assert package.signed_by is not None
        assert package.signed_by.name == "new"  # the highest of those that count


def test_keys_are_rotated_without_a_moment_in_which_nothing_runs(
    signers: Any, own_package: Path
) -> None:
    old = signers.make("old")
    new = signers.make("new", trusted=False)
    sign_package_file(own_package, old)
    sign_package_file(own_package, new)
    trust = signers.trust()
    Package.open(own_package, trust=trust).close()  # by the old one
    (signers.trusted / "new.pub").write_bytes(new.public.to_pem())
    (signers.trusted / "old.pub").unlink()
    Package.open(own_package, trust=trust).close()  # by the new one
    signers.revoke(old.key_id)
    Package.open(own_package, trust=trust).close()


def test_an_unsigned_package_is_refused_and_without_trust_it_is_taken(
    signers: Any, own_package: Path
) -> None:
    signers.make("release")
    assert "it is not signed" in refusal(own_package, signers.trust())
    Package.open(own_package).close()


def test_a_strangers_signature_is_refused(signers: Any, own_package: Path) -> None:
    signers.make("release")
    stranger = signers.make("stranger", trusted=False)
    sign_package_file(own_package, stranger)
    found = refusal(own_package, signers.trust())
    assert f"signed by the unknown key {stranger.key_id[:16]}" in found


def test_a_strangers_signature_under_a_trusted_keys_id_is_refused(
    signers: Any, own_package: Path
) -> None:
    key, stranger = signers.make("release"), signers.make("stranger", trusted=False)
    with Package.open(own_package) as package:
        forged = sign_package(stranger, package.package_id, serial=1)
    claimed = PackageSignature(key.key_id, forged.serial, forged.signed_at, forged.value)
    with_signature(own_package, signatures_to_json([claimed]))
    assert "'release' is of something else" in refusal(own_package, signers.trust())


def test_a_revoked_key_and_a_revoked_package_are_refused(signers: Any, own_package: Path) -> None:
    key = signers.make("release")
    sign_package_file(own_package, key)
    with Package.open(own_package, trust=signers.trust()) as package:
        package_id = package.package_id
    signers.revoke(key.key_id)
    assert f"revoked key {key.key_id[:16]} (release)" in refusal(own_package, signers.trust())
    signers.revoke(package_id.upper())
    assert f"package {package_id[:16]} is revoked" in refusal(own_package, signers.trust())


def test_a_package_whose_manifest_was_changed_after_signing_is_refused(
    signers: Any, own_package: Path
) -> None:
    sign_package_file(own_package, signers.make("release"))
    contents = dict(entries_of(own_package))
    changed = contents["manifest.json"].replace(b'"pixel":2.0', b'"pixel":9.0')
    assert changed != contents["manifest.json"]
    put(own_package, [("manifest.json", changed), *list(contents.items())[1:]])
    assert "changed after it was signed" in refusal(own_package, signers.trust())
    Package.open(own_package).close()  # whole, and nobody's


@pytest.mark.parametrize("field", ["serial", "signed_at", "value", "key_id"])
def test_no_field_of_a_signature_can_be_changed(
    signers: Any, own_package: Path, field: str
) -> None:
    key = signers.make("release")
    (signed,) = sign_package_file(own_package, key, serial=7)
    values = {
        "key_id": signed.key_id,
        "serial": signed.serial,
        "signed_at": signed.signed_at,
        "value": signed.value,
    }
    values[field] = {
        "serial": 8,
        "signed_at": "2031-01-01T00:00:00Z",
        "value": ("1" if signed.value[0] == "0" else "0") + signed.value[1:],
        "key_id": "0" * 64,
    }[field]
    with_signature(own_package, signatures_to_json([PackageSignature(**values)]))  # type: ignore[arg-type]
    refusal(own_package, signers.trust())


def test_anothers_signature_file_is_refused(
    signers: Any, own_package: Path, make_package: Callable[..., Path]
) -> None:
    key = signers.make("release")
    sign_package_file(own_package, key)
    other = make_package(backbone="another")
    with_signature(other, entries_of(own_package)[-1][1])
    assert "is of something else" in refusal(other, signers.trust())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is not JSON"),
        (b"[" * 60_000, "is not JSON"),
        (b"[]", "has schema None"),
        (b'{"schema":2}', "has schema 2"),
        (b'{"schema":true}', "has schema True"),
        (b'{"schema":1}', "lacks 'signatures'"),
        (b'{"schema":1,"signatures":[]}', "holds 0 signatures"),
        (b'{"schema":1,"signatures":[{}]}', "lacks 'algorithm'"),
        (b'{"schema":1, "signatures":[]}', "canonical"),
        (b'{"schema":1,"signatures":[],"x":1}', "unknown 'x'"),
        (b'{"schema":1,"signatures":[' + b",".join([b"1"] * 17) + b"]}", "holds 17 signatures"),
        (b'{"schema":1e999}', "is not JSON"),
    ],
)
def test_a_signature_file_that_is_none_is_refused(
    signers: Any, own_package: Path, data: bytes, words: str
) -> None:
    signers.make("release")
    with_signature(own_package, data)
    assert words in refusal(own_package, signers.trust())


@pytest.mark.parametrize(
    ("field", "value"),
    [("algorithm", "rsa"), ("serial", -1), ("serial", 2**53), ("serial", 1.5), ("key_id", "g" * 64),
     ("value", "0" * 126), ("signed_at", "yesterday"), ("more", 1)],
)  # fmt: skip
def test_a_signature_with_a_field_that_cannot_be_is_refused(
    signers: Any, field: str, value: object
) -> None:
    import json

    from ssn_edge_runtime.strict_json import canonical_json

    key = signers.make("release")
    document = json.loads(signatures_to_json([sign_package(key, "0" * 64, serial=1)]))
    document["signatures"][0][field] = value
    with pytest.raises(SignatureError, match=r"^signature\.json"):
        signatures_from_json(canonical_json(document))


def test_two_signatures_of_one_key_are_refused(signers: Any) -> None:
    key = signers.make("release")
    twice = [sign_package(key, "0" * 64, serial=each) for each in (1, 2)]
    with pytest.raises(SignatureError, match="one signature of each key"):
        signatures_from_json(signatures_to_json(twice))


def test_an_older_package_is_refused_once_a_newer_one_has_judged(
    signers: Any, own_package: Path, make_package: Callable[..., Path]
) -> None:
    key = signers.make("release")
    newer = make_package(backbone="newer")
    sign_package_file(own_package, key, serial=10)
    sign_package_file(newer, key, serial=11)
    trust = signers.trust()
    Package.open(newer, trust=trust).close()
    Package.open(own_package, trust=trust).close()  # looking at a package takes nothing
    Inspector.open(newer, engine="onnxruntime-cpu", trust=trust).close()
    found = refusal(own_package, trust)
    assert "older package 'tiny' (serial 10)" in found
    assert "(serial 11); go back on purpose: ssn-edge package rollback" in found
    with pytest.raises(SignatureError):
        Inspector.open(own_package, engine="onnxruntime-cpu", trust=trust)
    # On purpose; then it is the newest that was taken, until the other one comes again.
    back = signers.trust(allows_older=True)
    Inspector.open(own_package, engine="onnxruntime-cpu", trust=back).close()
    assert TrustState(signers.folder / "state.json").read().packages == {"tiny": 10}
    Inspector.open(own_package, engine="onnxruntime-cpu", trust=trust).close()
    Inspector.open(newer, engine="onnxruntime-cpu", trust=trust).close()
    refusal(own_package, trust)


def test_a_package_that_does_not_work_here_does_not_shut_out_the_one_before(
    signers: Any, own_package: Path, make_package: Callable[..., Path]
) -> None:
    key = signers.make("release")
    empty = make_package(golden_frames=())
    sign_package_file(own_package, key, serial=10)
    sign_package_file(empty, key, serial=99)
    trust = signers.trust()
    with pytest.raises(PackageError, match="golden"):
        Inspector.open(empty, engine="onnxruntime-cpu", trust=trust)
    Inspector.open(own_package, engine="onnxruntime-cpu", trust=trust).close()


def test_packages_of_another_name_have_a_serial_of_their_own_and_the_least_holds_for_all(
    signers: Any, own_package: Path, make_package: Callable[..., Path]
) -> None:
    key = signers.make("release")
    other = make_package(name="other")
    sign_package_file(own_package, key, serial=10)
    sign_package_file(other, key, serial=20)
    Inspector.open(other, engine="onnxruntime-cpu", trust=signers.trust()).close()
    Inspector.open(own_package, engine="onnxruntime-cpu", trust=signers.trust()).close()
    assert "below the least one here, 11" in refusal(own_package, signers.trust(minimum_serial=11))


def test_a_state_that_is_not_understood_is_not_taken_for_an_empty_one(
    signers: Any, own_package: Path
) -> None:
    sign_package_file(own_package, signers.make("release"))
    for data in (b"", b"{}", b"[" * 10_000, b'{"packages":{"tiny":-1},"schema":1,"settings":{}}'):
        (signers.folder / "state.json").write_bytes(data)
        with pytest.raises(ConfigError, match="does not say which packages were taken"):
            Package.open(own_package, trust=signers.trust())


def test_without_a_change_nothing_is_written(signers: Any, own_package: Path) -> None:
    sign_package_file(own_package, signers.make("release"), serial=1)
    trust = signers.trust()
    Inspector.open(own_package, engine="onnxruntime-cpu", trust=trust).close()
    before = (signers.folder / "state.json").stat()
    Inspector.open(own_package, engine="onnxruntime-cpu", trust=trust).close()
    after = (signers.folder / "state.json").stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


def test_trusted_keys_that_cannot_be_read_refuse_everything(
    signers: Any, own_package: Path
) -> None:
    key = signers.make("release")
    sign_package_file(own_package, key)
    for name, data, words in (
        ("x.pub", b"none", "is no public key in PEM form"),
        ("y.pub", (signers.folder / "release.key").read_bytes(), "is no public key"),
        ("revoked.txt", b"release\n", "revoked.txt:1: 'release' is no id"),
        ("revoked.txt", b"\xff", "is not UTF-8"),
    ):
        (signers.trusted / name).write_bytes(data)
        with pytest.raises(ConfigError, match=words):
            Package.open(own_package, trust=signers.trust())
        (signers.trusted / name).unlink()
    Package.open(own_package, trust=signers.trust()).close()
    (signers.trusted / "release.pub").unlink()
    with pytest.raises(ConfigError, match="holds no public key"):
        Package.open(own_package, trust=signers.trust())
    with pytest.raises(ConfigError, match="cannot be read"):
        TrustedKeys.read(signers.folder / "absent")
    assert set(TrustedKeys.read(signers.folder / "release.key.pub").keys) == {key.key_id}


def test_a_trust_goes_to_another_process_as_it_is(signers: Any) -> None:
    trust = Trust(signers.trusted, signers.folder / "state.json", 7, True)
    assert Trust.from_dict(trust.to_dict()) == trust
    assert Trust.from_dict(Trust(signers.trusted).to_dict()) == Trust(signers.trusted)


def test_a_new_key_is_for_its_owner_alone_and_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "release.key"
    key = DeviceKey.make(path)
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="is there already"):
        DeviceKey.make(path)
    (tmp_path / "other.key.pub").touch()
    with pytest.raises(ConfigError, match="is there already"):
        DeviceKey.make(tmp_path / "other.key")
    assert path.read_bytes() == before
    assert not (tmp_path / "other.key").exists()
    assert DeviceKey.read(path).key_id == key.key_id
    assert key.key_id == hashlib.sha256(key.public.raw).hexdigest()


@pytest.mark.parametrize(
    ("data", "mode", "words"),
    [
        (None, 0o600, "cannot be read"),
        (b"", 0o600, "is no private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", 0o600, "can be read"),
        (b"-----BEGIN PRIVATE KEY-----\n", 0o644, "others may read it"),
    ],
)
def test_a_private_key_that_is_none_is_refused(
    tmp_path: Path, data: bytes | None, mode: int, words: str
) -> None:
    path = tmp_path / "x.key"
    if data is not None:
        path.write_bytes(data)
        path.chmod(mode)
    with pytest.raises(ConfigError, match=words):
        DeviceKey.read(path)
