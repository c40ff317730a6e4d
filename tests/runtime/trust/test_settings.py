"""Signed settings: taken where a trusted key signed them, and none that are older unasked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ssn_edge_export.signing import sign_package_file
from ssn_edge_runtime import Inspector
from ssn_edge_runtime.errors import SignatureError
from ssn_edge_runtime.settings import DeviceSettings
from ssn_edge_runtime.settings_store import SettingsStore, read_settings
from ssn_edge_runtime.sinks import DeviceKey
from ssn_edge_runtime.trust import TrustState, sign_settings


@pytest.fixture
def key(signers: Any, own_package: Path) -> DeviceKey:
    """Of whoever signed the package."""
    key = signers.make("release")
    sign_package_file(own_package, key)
    assert isinstance(key, DeviceKey)
    return key


@pytest.fixture
def store(tmp_path: Path, own_package: Path) -> SettingsStore:
    """Three versions, none of them signed."""
    with Inspector.open(own_package, engine="onnxruntime-cpu") as inspector:
        package_id = inspector.package_id
    store = SettingsStore(tmp_path / "settings.json")
    for number in range(3):
        store.save(lambda before, n=number: DeviceSettings(package_id, note=str(n)))  # type: ignore[misc]
        store.save(
            lambda before: replace(
                before, line=replace(before.line, deadline_ms=100.0 + before.version)
            )
        )
    return store


def test_signing_keeps_the_id_and_signs_the_kept_version_as_well(
    key: DeviceKey, store: SettingsStore
) -> None:
    before = store.current()
    assert before is not None
    signed = store.sign(lambda unsigned: sign_settings(key, unsigned))
    assert signed.settings_id == before.settings_id
    assert signed.signature is not None
    assert key.public.verifies(bytes.fromhex(signed.signature.value), before.signed_bytes)
    assert store.current() == signed
    assert read_settings(store.path.with_name(f"settings-{signed.version}.json")) == signed


def test_a_change_takes_the_signature_away(key: DeviceKey, store: SettingsStore) -> None:
    store.sign(lambda unsigned: sign_settings(key, unsigned))
    changed = store.save(lambda before: replace(before, line=replace(before.line, halt_after=9)))
    assert changed.signature is None


def test_unsigned_settings_are_refused_at_opening_and_while_it_judges(
    signers: Any, key: DeviceKey, store: SettingsStore, own_package: Path
) -> None:
    with pytest.raises(SignatureError, match=r"settings version \d .* are not signed"):
        Inspector.open(
            own_package, engine="onnxruntime-cpu", settings=store.path, trust=signers.trust()
        )
    first = store.sign(lambda unsigned: sign_settings(key, unsigned))
    with Inspector.open(
        own_package, engine="onnxruntime-cpu", settings=store.path, trust=signers.trust()
    ) as inspector:
        changed = store.save(
            lambda before: replace(before, line=replace(before.line, halt_after=9))
        )
        with pytest.raises(SignatureError, match="are not signed"):
            inspector.apply_settings(store.path)
        assert inspector.settings_id == first.settings_id
        store.sign(lambda unsigned: sign_settings(key, unsigned))
        inspector.apply_settings(store.path)
        assert inspector.settings_id == changed.settings_id


@pytest.mark.parametrize("whose", ["stranger", "forged", "revoked", "settings revoked"])
def test_settings_whose_signature_does_not_count_are_refused(
    signers: Any, key: DeviceKey, store: SettingsStore, own_package: Path, whose: str
) -> None:
    signer = signers.make("stranger", trusted=False)
    own = signers.make("second")

    def signature(unsigned: DeviceSettings) -> Any:
        made = sign_settings(own if "revoked" in whose else signer, unsigned)
        return replace(made, key_id=own.key_id) if whose == "forged" else made

    signed = store.sign(signature)
    if whose == "revoked":
        signers.revoke(own.key_id)
    if whose == "settings revoked":
        signers.revoke(signed.settings_id)
    words = {
        "stranger": "unknown key",
        "forged": "key 'second' did not make",
        "revoked": "revoked key",
        "settings revoked": "are revoked",
    }[whose]
    with pytest.raises(SignatureError, match=words) as caught:
        Inspector.open(
            own_package, engine="onnxruntime-cpu", settings=store.path, trust=signers.trust()
        )
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


def test_older_settings_are_refused_and_so_are_none_at_all(
    signers: Any, key: DeviceKey, store: SettingsStore, own_package: Path
) -> None:
    def opened(settings: Path | None, **options: Any) -> Inspector:
        return Inspector.open(
            own_package, engine="onnxruntime-cpu", settings=settings, trust=signers.trust(**options)
        )

    store.roll_back(2)
    old = store.sign(lambda unsigned: sign_settings(key, unsigned))
    store.roll_back(4)
    new = store.sign(lambda unsigned: sign_settings(key, unsigned))
    opened(store.path).close()
    kept = store.path.with_name(f"settings-{old.version}.json")
    with pytest.raises(SignatureError, match=r"are older than version 4, .* settings rollback"):
        opened(kept)
    with pytest.raises(SignatureError, match=r"settings version 4 .* and now there are none"):
        opened(None)
    with opened(store.path) as inspector, pytest.raises(SignatureError, match="are older"):
        inspector.apply_settings(kept)
    opened(None, allows_older=True).close()
    with opened(kept, allows_older=True) as inspector:
        assert inspector.settings_id == old.settings_id
        inspector.apply_settings(store.path)
        with pytest.raises(SignatureError, match="are older"):
            inspector.apply_settings(kept)  # what was allowed was the opening
    state = TrustState(signers.folder / "state.json")
    assert state.read().settings == {new.package_id: 4}
    state.take_settings(old.package_id, old.version, goes_back=True)
    opened(kept).close()


def test_a_version_can_be_signed_in_the_same_save(key: DeviceKey, store: SettingsStore) -> None:
    saved = store.save(
        lambda before: replace(before, line=replace(before.line, halt_after=9)),
        signature_of=lambda finished: sign_settings(key, finished),
    )
    assert saved.signature is not None
    assert key.public.verifies(bytes.fromhex(saved.signature.value), saved.signed_bytes)
    assert store.current() == saved == read_settings(store.kept(saved.version))


def test_a_version_that_cannot_be_signed_is_not_written(store: SettingsStore) -> None:
    def refuse(finished: DeviceSettings) -> Any:
        raise SignatureError(f"version {finished.version} is not wanted")

    def files() -> dict[str, bytes]:
        return {each.name: each.read_bytes() for each in store.path.parent.glob("*settings*")}

    before = files()
    with pytest.raises(SignatureError, match="is not wanted"):
        store.save(
            lambda before: replace(before, line=replace(before.line, halt_after=9)),
            signature_of=refuse,
        )
    assert files() == before
