"""Whom a project trusts: the options of a verb over ``[trust]`` of ``ssn-edge.toml``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ssn_edge.settings import TrustSettings
from ssn_edge_runtime.errors import ConfigError
from ssn_edge_runtime.settings import DeviceSettings
from ssn_edge_runtime.trust import Trust, TrustState
from ssn_edge_runtime.trust.state import STATE_NAME


def find_trust(
    project: TrustSettings,
    *,
    keys: Path | None,
    is_required: bool,
    output: Path,
    allows_older: bool = False,
    minimum_serial: int | None = None,
) -> Trust | None:
    """Who must have signed what runs; None where nobody need have.

    Args:
        project: ``[trust]`` of the project file.
        keys: ``--trust``: naming keys asks for a signature of one of them.
        is_required: ``--require-signature``.
        output: Folder of the decisions, where what was taken is noted unless the project says else.
        allows_older: ``--allow-older``.
        minimum_serial: ``--minimum-serial``; None for the project's.

    Raises:
        ConfigError: A signature is required, and no keys are known.
    """
    if not (is_required or project.require_signature or keys is not None):
        if allows_older or minimum_serial is not None:
            raise ConfigError(
                "--allow-older and --minimum-serial go with --require-signature: without it no "
                "serial is looked at"
            )
        return None
    trust = known_trust(project, keys=keys, output=output, allows_older=allows_older)
    if trust is None:
        raise ConfigError(
            "a signature is required, and no key is trusted yet; name the folder of public keys: "
            "--trust FOLDER, or keys in [trust] of ssn-edge.toml"
        )
    return trust if minimum_serial is None else replace(trust, minimum_serial=minimum_serial)


def known_trust(
    project: TrustSettings, *, keys: Path | None, output: Path, allows_older: bool = False
) -> Trust | None:
    """The trusted keys, whether a signature is required or not; None where none are named."""
    if keys is None and not project.keys:
        return None
    return Trust(
        keys or Path(project.keys),
        state_path(project, output),
        project.minimum_serial,
        allows_older,
    )


def state_path(project: TrustSettings, output: Path) -> Path:
    """Where it is noted what was taken."""
    return Path(project.state) if project.state else output / STATE_NAME


def note_settings_rollback(state: Path, settings: DeviceSettings) -> None:
    """Let settings that someone brought back count, where newer ones were noted.

    Raises:
        ConfigError: The state cannot be read.
        StorageError: It cannot be written.
    """
    if state.exists():
        TrustState(state).take_settings(settings.package_id, settings.version, goes_back=True)
