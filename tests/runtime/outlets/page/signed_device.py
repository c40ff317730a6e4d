"""A device whose line takes signed packages and settings only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ssn_edge_runtime.settings_store import SettingsStore
from ssn_edge_runtime.sinks import DeviceKey


@dataclass
class Device:
    """A folder with a signed package, signed settings, and the page's key among the trusted."""

    folder: Path
    package: Path
    store: SettingsStore
    page_key: DeviceKey

    def revoke_the_page(self) -> None:
        (self.folder / "keys" / "revoked.txt").write_text(f"{self.page_key.key_id}  # lost\n")

    def forget_the_page(self) -> None:
        (self.folder / "keys" / "page.pub").unlink()

    def files(self) -> dict[str, bytes]:
        """All that lies beside the settings, and what is in it."""
        return {
            each.name: each.read_bytes() for each in sorted(self.folder.iterdir()) if each.is_file()
        }
