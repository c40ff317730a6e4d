"""`ssn-edge sign`, and the verbs that look at signatures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ssn_edge_runtime.errors import StorageError
from ssn_edge_runtime.package import Package
from tests.end_to_end.chain import Outcome, Project, ssn_edge

RUN = ("run", "--device", "frames", "--package", "part.ssn", "--engine", "onnxruntime-cpu",
       "--keep", "none", "--json")  # fmt: skip


@pytest.fixture
def device(project: Project, tmp_path: Path) -> Path:
    """A device's folder: a package, a key that it trusts, and what it is to judge."""
    shutil.copy(project.root / "part.ssn", tmp_path)
    shutil.copytree(project.root / "line", tmp_path / "frames")
    assert ssn_edge("sign", "--new-key", "release.key", cwd=tmp_path).code == 0
    (tmp_path / "keys").mkdir()
    shutil.copy(tmp_path / "release.key.pub", tmp_path / "keys" / "release.pub")
    return tmp_path


def refused(outcome: Outcome, words: str, code: int = 3) -> None:
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    assert outcome.err.startswith("error: ")
    assert len(outcome.err.splitlines()) == 1
    assert words in outcome.err


def sign(device: Path, serial: int, key: str = "release.key") -> dict[str, object]:
    outcome = ssn_edge(
        "sign", "part.ssn", "--key", key, "--serial", str(serial), "--json", cwd=device
    )
    assert outcome.code == 0, outcome.err
    return outcome.json()


def test_a_signed_package_runs_and_verify_and_info_say_who_signed_it(device: Path) -> None:
    refused(ssn_edge(*RUN, "--trust", "keys", cwd=device), "it is not signed")
    refused(ssn_edge("verify", "part.ssn", "--trust", "keys", cwd=device), "it is not signed")
    assert not (device / "decisions").exists()
    with Package.open(device / "part.ssn") as package:
        before = package.package_id
    assert sign(device, 5)["id"] == before
    outcome = ssn_edge("info", "part.ssn", "--trust", "keys", cwd=device)
    assert "signature      by release (key " in outcome.out
    assert "serial 5: trusted" in outcome.out
    alone = ssn_edge("info", "part.ssn", cwd=device)
    assert alone.code == 0
    assert "no keys are trusted here" in alone.out
    verified = ssn_edge(
        "verify", "part.ssn", "--engine", "onnxruntime-cpu", "--trust", "keys", cwd=device
    )
    assert verified.code == 0
    assert "signed by release (key " in verified.out
    ran = ssn_edge(*RUN, "--trust", "keys", cwd=device)
    assert ran.code == 0, ran.err
    assert json.loads((device / "decisions" / "trust-state.json").read_text())["packages"]


def test_the_project_file_asks_for_signatures(device: Path) -> None:
    (device / "ssn-edge.toml").write_text('[trust]\nkeys = "keys"\nrequire_signature = true\n')
    refused(ssn_edge(*RUN, cwd=device), "it is not signed")
    refused(ssn_edge("verify", "part.ssn", cwd=device), "it is not signed")
    refused(
        ssn_edge("run", "--listen", "127.0.0.1:0", "--package", "part.ssn", cwd=device),
        "it is not signed",
    )
    sign(device, 5)
    assert ssn_edge(*RUN, cwd=device).code == 0
    printed = ssn_edge("service", "print", "--gpu", "none", "--executable", "/usr/bin/ssn-edge",
                       cwd=device)  # fmt: skip
    assert f"--require-signature --trust {device / 'keys'}" in printed.out
    (device / "ssn-edge.toml").write_text("[trust]\nrequire_signature = true\n")
    refused(ssn_edge(*RUN, cwd=device), "needs trusted keys", 2)


def test_the_units_page_signs_with_the_key_that_the_project_file_names(device: Path) -> None:
    (device / "ssn-edge.toml").write_text('[run]\npage_signing_key = "page.key"\n')
    unit = ("service", "print", "--gpu", "none", "--executable", "/usr/bin/ssn-edge", "--network")
    page = ("--page", "8080", "--page-tokens", "/etc/tokens.json")
    printed = ssn_edge(*unit, "--", *page, cwd=device)
    assert f"--page-signing-key {device / 'page.key'} " in printed.out
    for more in ((), ("--", "--page", "8080")):  # nobody may apply anything there
        assert "--page-signing-key" not in ssn_edge(*unit, *more, cwd=device).out
    printed = ssn_edge(*unit, "--", *page, "--page-signing-key", "/etc/p.key", cwd=device)
    assert printed.out.count("--page-signing-key") == 1


@pytest.mark.parametrize("damage", ["tampered", "unknown", "revoked"])
def test_what_does_not_count_is_refused_with_3_and_one_line(device: Path, damage: str) -> None:
    key_id = str(sign(device, 5)["key_id"])
    words = ""
    if damage == "tampered":
        data = bytearray((device / "part.ssn").read_bytes())
        data[len(data) // 2] ^= 1
        (device / "part.ssn").write_bytes(data)
        words = "damaged"
    elif damage == "unknown":
        ssn_edge("sign", "--new-key", "other.key", cwd=device)
        shutil.copy(device / "other.key.pub", device / "keys" / "release.pub")
        words = "unknown key"
    else:
        (device / "keys" / "revoked.txt").write_text(f"{key_id}\n")
        words = "revoked key"
    refused(ssn_edge(*RUN, "--trust", "keys", cwd=device), words)
    refused(ssn_edge("verify", "part.ssn", "--trust", "keys", cwd=device), words)
    assert not (device / "decisions").exists()


def test_an_older_package_is_refused_until_someone_goes_back(device: Path) -> None:
    sign(device, 6)
    assert ssn_edge(*RUN, "--trust", "keys", cwd=device).code == 0
    sign(device, 5)
    refused(ssn_edge(*RUN, "--trust", "keys", cwd=device), "--allow-older")
    refused(ssn_edge("verify", "part.ssn", "--trust", "keys", cwd=device), "older package")
    assert ssn_edge(*RUN, "--trust", "keys", "--allow-older", cwd=device).code == 0
    assert ssn_edge(*RUN, "--trust", "keys", cwd=device).code == 0
    refused(
        ssn_edge(*RUN, "--trust", "keys", "--minimum-serial", "6", cwd=device),
        "below the least one here",
    )


def test_signed_settings_and_their_rollback(device: Path) -> None:
    sign(device, 1)
    own = ("--package", "part.ssn", "--engine", "onnxruntime-cpu")
    for halt in ("50", "60"):
        assert ssn_edge("settings", "set", "--halt-after", halt, *own, cwd=device).code == 0
        refused(ssn_edge(*RUN, "--trust", "keys", cwd=device), "are not signed")
        outcome = ssn_edge("sign", "settings.json", "--key", "release.key", cwd=device)
        assert outcome.code == 0, outcome.err
        assert "settings " in outcome.out
        assert ssn_edge(*RUN, "--trust", "keys", cwd=device).code == 0
    shutil.copy(device / "settings-1.json", device / "settings.json")  # not by its own verb
    refused(ssn_edge(*RUN, "--trust", "keys", cwd=device), "are older than version 2")
    (device / "settings.json").write_bytes((device / "settings-2.json").read_bytes())
    assert ssn_edge("settings", "rollback", cwd=device).code == 0
    assert ssn_edge(*RUN, "--trust", "keys", cwd=device).code == 0
    (device / "settings.json").unlink()
    refused(ssn_edge(*RUN, "--trust", "keys", cwd=device), "and now there are none")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["sign", "part.ssn"], 2, "a file and a key are wanted"),
        (["sign", "part.ssn", "--key", "absent.key"], 2, "absent.key: cannot be read"),
        (["sign", "--new-key", "release.key"], 2, "is there already"),
        (["sign", "part.ssn", "--new-key", "x.key"], 2, "signs nothing"),
        (["sign", "absent.ssn", "--key", "release.key"], 3, "cannot be opened"),
        (["sign", "release.key.pub", "--key", "release.key"], 3, "does not begin as a model"),
        (["sign", "part.ssn", "--key", "release.key", "--serial", "-1"], 2, "serial -1"),
        (["sign", "absent.json", "--key", "release.key"], 2, "cannot be read"),
        ([*RUN, "--require-signature"], 2, "no key is trusted yet"),
        ([*RUN, "--trust", "absent"], 2, "absent: cannot be read"),
        ([*RUN, "--allow-older"], 2, "go with --require-signature"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    device: Path, arguments: list[str], code: int, words: str
) -> None:
    before = (device / "part.ssn").read_bytes()
    refused(ssn_edge(*arguments, cwd=device), words, code)
    assert (device / "part.ssn").read_bytes() == before
    assert sorted(each.name for each in device.iterdir()) == [
        "frames", "keys", "part.ssn", "release.key", "release.key.pub",
    ]  # fmt: skip


def test_a_disk_that_takes_no_signature_leaves_the_package_as_it_was(
    device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ssn_edge_export import signing
    from ssn_edge_runtime.sinks import DeviceKey

    before = (device / "part.ssn").read_bytes()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(signing.os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        signing.sign_package_file(device / "part.ssn", DeviceKey.read(device / "release.key"))
    assert (device / "part.ssn").read_bytes() == before
    assert not [each for each in device.iterdir() if each.name.endswith(".part")]


def test_without_cryptography_a_signature_cannot_be_checked_and_nothing_runs(
    device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    sign(device, 5)
    with monkeypatch.context() as patch:
        for name in [each for each in sys.modules if each.split(".")[0] == "cryptography"]:
            patch.delitem(sys.modules, name)
        patch.setitem(sys.modules, "cryptography", None)
        refused(ssn_edge(*RUN, "--trust", "keys", cwd=device), "pip install 'ssn-edge[sign]'", 2)
