"""Plans and certificates of this device: whole, its own, or not there."""

from __future__ import annotations

import json
import logging
import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ssn_edge_runtime.engines.cache import EngineCache, EngineKey, EngineSlot, default_root
from ssn_edge_runtime.errors import EngineError, StorageError

KEY = EngineKey({"engine": "tensorrt", "model_sha256": "ab" * 32, "sm_count": 8, "dla": None})
OTHER_KEY = EngineKey({**KEY.fields, "sm_count": 4})
PACKAGE_ID = "cd" * 32
PLAN = bytes(range(256)) * 64


@pytest.fixture
def slot(tmp_path: Path) -> EngineSlot:
    return EngineCache(tmp_path / "cache").slot(KEY)


def plan_file(slot: EngineSlot) -> Path:
    (path,) = slot.folder.glob("*.plan")
    return path


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_key_is_its_fields_whatever_their_order() -> None:
    assert EngineKey(dict(reversed(KEY.fields.items()))).sha256 == KEY.sha256
    assert OTHER_KEY.sha256 != KEY.sha256
    assert EngineKey({"sm_count": "8"}).sha256 != EngineKey({"sm_count": 8}).sha256


def test_what_was_written_is_read_back(slot: EngineSlot) -> None:
    assert slot.read_plan() is None
    with slot.lock():
        slot.write_plan(PLAN, {"build_seconds": 12.5})
    assert slot.read_plan() == PLAN
    note = slot.read_note()
    assert note is not None
    assert note["key"] == dict(KEY.fields)
    assert note["details"] == {"build_seconds": 12.5}
    assert note["plan_bytes"] == len(PLAN)


def test_the_folders_are_their_owners_alone(slot: EngineSlot) -> None:
    slot.write_plan(PLAN, {})
    assert slot.folder.stat().st_mode & 0o777 == 0o700
    assert slot.folder.parent.stat().st_mode & 0o777 == 0o700


def test_a_new_plan_takes_the_place_of_the_old_one(slot: EngineSlot) -> None:
    slot.write_plan(PLAN, {})
    slot.write_plan(b"another plan", {})
    assert slot.read_plan() == b"another plan"
    assert plan_file(slot).read_bytes() == b"another plan"


@pytest.mark.parametrize("damage", [PLAN[:-1], PLAN + b"\0", b"", bytes([1]) + PLAN[1:]])
def test_a_damaged_plan_is_moved_aside_and_logged(
    damage: bytes, slot: EngineSlot, caplog: pytest.LogCaptureFixture
) -> None:
    slot.write_plan(PLAN, {})
    plan_file(slot).write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        assert slot.read_plan() is None
    assert "its plan is damaged; moved aside" in caplog.text
    assert slot.read_note() is None
    assert len(list((slot.folder / "aside").iterdir())) == 2
    slot.write_plan(PLAN, {})
    assert slot.read_plan() == PLAN


def test_a_plan_that_is_gone_counts_as_none(slot: EngineSlot) -> None:
    slot.write_plan(PLAN, {})
    plan_file(slot).unlink()
    assert slot.read_plan() is None
    assert slot.read_note() is None


def test_a_plan_of_another_key_is_not_taken(
    slot: EngineSlot, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = EngineCache(tmp_path / "cache").slot(OTHER_KEY)
    other.write_plan(PLAN, {})
    slot.write_plan(b"mine", {})
    for path in other.folder.iterdir():
        path.replace(slot.folder / path.name)
    assert slot.read_plan() is None
    assert "belongs to another engine or version" in caplog.text


def test_a_torn_note_counts_as_no_plan(slot: EngineSlot, caplog: pytest.LogCaptureFixture) -> None:
    slot.write_plan(PLAN, {})
    note = slot.folder / "plan.json"
    for torn in (note.read_bytes()[:40], b"", b"[]", b"\xff\xfe", b'{"schema": 99}', b"[" * 10**5):
        note.write_bytes(torn)
        assert slot.read_plan() is None


def test_a_note_cannot_name_a_file_elsewhere(slot: EngineSlot, tmp_path: Path) -> None:
    slot.write_plan(PLAN, {})
    (tmp_path / "cache" / "foreign.plan").write_bytes(PLAN)
    note = json.loads((slot.folder / "plan.json").read_bytes())
    (slot.folder / "plan.json").write_text(json.dumps({**note, "plan_sha256": "../foreign"}))
    assert slot.read_plan() is None


def test_a_folder_that_others_may_write_to_is_refused(slot: EngineSlot) -> None:
    slot.write_plan(PLAN, {})
    slot.folder.chmod(0o770)
    with pytest.raises(EngineError, match=r"can be written to by others.*chmod 700"):
        slot.read_plan()
    slot.folder.chmod(0o700)
    slot.folder.parent.chmod(0o777)
    with pytest.raises(EngineError, match="can be written to by others"):
        slot.read_plan()


def test_a_certificate_belongs_to_its_package(slot: EngineSlot) -> None:
    assert slot.read_certificate(PACKAGE_ID) is None
    path = slot.write_certificate(PACKAGE_ID, {"pictures": 64})
    assert slot.read_certificate(PACKAGE_ID) == {"pictures": 64}
    assert slot.read_certificate("ef" * 32) is None
    path.write_bytes(b'{"pictures": 6')
    assert slot.read_certificate(PACKAGE_ID) is None
    slot.remove_certificate(PACKAGE_ID)
    assert not path.exists()
    slot.remove_certificate(PACKAGE_ID)
    with pytest.raises(EngineError, match="no package id"):
        slot.read_certificate("../../etc/passwd")


RACER = """
    import sys
    from pathlib import Path
    from ssn_edge_runtime.engines.cache import EngineCache, EngineKey
    slot = EngineCache(Path(sys.argv[1])).slot(EngineKey({"engine": "tensorrt"}))
    waited = []
    with slot.lock(waited.append):
        found = slot.read_plan()
        if found is None:
            log = slot.folder / "builds"
            log.write_text(log.read_text() + "x" if log.exists() else "x")
            import time; time.sleep(0.5)
            slot.write_plan(b"built once" * 1000, {})
    assert slot.read_plan() == b"built once" * 1000
"""


def test_of_processes_that_want_the_same_plan_one_builds_it(tmp_path: Path) -> None:
    racers = [python(RACER, str(tmp_path / "cache")) for _ in range(3)]
    for racer in racers:
        printed, _ = racer.communicate(timeout=60)
        assert racer.returncode == 0, printed
    assert next((tmp_path / "cache").glob("*/builds")).read_text() == "x"


def test_who_waits_for_another_is_told(slot: EngineSlot) -> None:
    holder = python(
        """
        import sys
        from pathlib import Path
        from ssn_edge_runtime.engines.cache import EngineCache, EngineKey
        fields = {"engine": "tensorrt", "model_sha256": "ab" * 32, "sm_count": 8, "dla": None}
        with EngineCache(Path(sys.argv[1])).slot(EngineKey(fields)).lock():
            print("held", flush=True)
            import time; time.sleep(1)
        """,
        str(slot.folder.parent),
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    said: list[str] = []
    with slot.lock(said.append):
        assert said == ["another process builds this engine; waiting for it"]
    holder.wait(timeout=60)
    holder.stdout.close()


def test_a_killed_builder_leaves_the_lock_free_and_the_old_plan(slot: EngineSlot) -> None:
    slot.write_plan(PLAN, {})
    builder = python(
        """
        import sys
        from pathlib import Path
        from ssn_edge_runtime.engines.cache import EngineCache, EngineKey
        fields = {"engine": "tensorrt", "model_sha256": "ab" * 32, "sm_count": 8, "dla": None}
        with EngineCache(Path(sys.argv[1])).slot(EngineKey(fields)).lock():
            print("held", flush=True)
            import time; time.sleep(60)
        """,
        str(slot.folder.parent),
    )
    assert builder.stdout is not None
    assert builder.stdout.readline() == "held\n"
    builder.kill()
    builder.wait(timeout=60)
    builder.stdout.close()
    with slot.lock():
        assert slot.read_plan() == PLAN


def test_a_full_disk_leaves_the_old_plan_and_says_so(slot: EngineSlot) -> None:
    slot.write_plan(PLAN, {})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # no file may grow beyond
    try:
        with pytest.raises(StorageError, match=r"\.plan cannot be written: File too large"):
            slot.write_plan(bytes(100_000), {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert slot.read_plan() == PLAN
    assert [path.name for path in slot.folder.iterdir() if path.name.startswith(".")] == []


def test_a_folder_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    slot = EngineCache(tmp_path / "file" / "cache").slot(KEY)
    assert slot.read_plan() is None  # nothing is there; that alone is no error
    for write in (
        lambda: slot.write_plan(PLAN, {}),
        lambda: slot.write_certificate(PACKAGE_ID, {}),
        lambda: slot.lock().__enter__(),
    ):
        with pytest.raises(StorageError, match="SSN_EDGE_CACHE to another folder"):
            write()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_read_only_folder_is_read_from_but_not_written_to(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "cache")
    cache.slot(KEY).write_plan(PLAN, {})
    for path in (tmp_path, *tmp_path.parents):  # pytest's own folders are private
        if path.owner() == "root" and path != Path("/") and path != Path("/tmp"):
            path.chmod(0o755)
    for path in (cache.root, *cache.root.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    reader = python(
        """
        import os, sys
        from pathlib import Path
        from ssn_edge_runtime.engines.cache import EngineCache, EngineKey
        from ssn_edge_runtime.errors import StorageError
        os.setgid(65534)
        os.setuid(65534)
        fields = {"engine": "tensorrt", "model_sha256": "ab" * 32, "sm_count": 8, "dla": None}
        slot = EngineCache(Path(sys.argv[1])).slot(EngineKey(fields))
        assert len(slot.read_plan()) == 256 * 64
        try:
            slot.write_plan(b"new", {})
        except StorageError as error:
            print(error)
        """,
        str(cache.root),
    )
    printed, _ = reader.communicate(timeout=60)
    assert "cannot be written" in printed
    assert "Permission denied" in printed
    assert cache.slot(KEY).read_plan() == PLAN


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")  # as it says of an unknown user


def test_where_the_cache_lies_can_be_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SSN_EDGE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_root() == tmp_path / ".cache" / "ssn-edge"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_root() == tmp_path / "xdg" / "ssn-edge"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert default_root() == Path("/var/cache/ssn-edge")
    monkeypatch.setenv("SSN_EDGE_CACHE", str(tmp_path / "own"))
    assert EngineCache().root == tmp_path / "own"
