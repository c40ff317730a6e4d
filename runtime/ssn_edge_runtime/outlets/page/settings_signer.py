"""The signature of a settings version that is made on the page, and whether the line takes it."""

from __future__ import annotations

from dataclasses import replace

from ssn_edge_runtime.errors import SsnEdgeError
from ssn_edge_runtime.settings import DeviceSettings, Signature
from ssn_edge_runtime.sinks.device_key import DeviceKey
from ssn_edge_runtime.trust import Trust, sign_settings


class SettingsSigner:
    """Signs with the page's own key; safe from several threads.

    Args:
        key: Of the page; None for none: what is made is not signed.
        trust: Whom the line trusts; None where it takes settings that nobody signed.
    """

    def __init__(self, key: DeviceKey | None, trust: Trust | None) -> None:
        self._key = key
        # An older version was allowed for the line's start, not for what is made now.
        self._trust = None if trust is None else replace(trust, allows_older=False)

    @property
    def key_id(self) -> str | None:
        """SHA-256 of the page's public key; None without one."""
        return None if self._key is None else self._key.key_id

    @property
    def needs_signature(self) -> bool:
        """Whether the line takes signed settings only."""
        return self._trust is not None

    def refusal(self) -> str | None:
        """Why the line would not take what is made here, in one line; None where it would.

        The trusted keys are read each time: one that is revoked counts at once.
        """
        if self._trust is None:
            return None
        if self._key is None:
            return (
                "the line takes signed settings only, and this page has no key to sign with; start "
                "the line with --page-signing-key FILE, or make the version elsewhere: ssn-edge "
                "settings set, then ssn-edge sign"
            )
        try:
            refused = self._trust.refusal_of_key(self._key.key_id)
        except SsnEdgeError as error:
            return str(error)
        if not refused:
            return None
        return (
            f"the line takes settings of trusted keys only, and what is made here would be "
            f"{refused}; give the page one that is trusted: --page-signing-key FILE"
        )

    def signature_of(self, settings: DeviceSettings) -> Signature | None:
        """The signature of a version that is about to be written; None without a key.

        Raises:
            SignatureError: The line would refuse the version, signed as it is.
            ConfigError: The trusted keys, or what was taken before, cannot be read.
        """
        signature = None if self._key is None else sign_settings(self._key, settings)
        if self._trust is not None:
            self._trust.check_settings(replace(settings, signature=signature))
        return signature
