"""GStreamer and Aravis through `gi`, which comes from the distribution and not from pip."""

from __future__ import annotations

import importlib
from typing import Any

from ssn_edge_runtime.sources.missing_library import missing_library

APT_PACKAGES = {
    "Gst": "gir1.2-gstreamer-1.0",
    "GstApp": "gir1.2-gst-plugins-base-1.0",
    "GstVideo": "gir1.2-gst-plugins-base-1.0",
    "Aravis": "gir1.2-aravis-0.8",
}
_TITLES = {"Gst": "GStreamer", "Aravis": "Aravis"}
_VERSIONS = {"Gst": "1.0", "GstApp": "1.0", "GstVideo": "1.0", "Aravis": "0.8"}


def load_typelibs(*names: str) -> list[Any]:
    """Import libraries by their names in ``gi.repository``.

    Raises:
        SourceError: `gi` or the library is missing; the message says what to install.
    """
    try:
        gi = importlib.import_module("gi")
    except ImportError as error:
        packages = " ".join(["python3-gi", *dict.fromkeys(APT_PACKAGES[name] for name in names)])
        raise missing_library(
            _TITLES[names[0]],
            f"the distribution's gi, which this Python does not find ({error})",
            f"apt install {packages}, and make the environment from the system's own Python with "
            "`python3 -m venv --system-site-packages`",
        ) from error
    modules = []
    for name in names:
        try:
            gi.require_version(name, _VERSIONS[name])
            modules.append(importlib.import_module(f"gi.repository.{name}"))
        except (ValueError, ImportError) as error:
            raise missing_library(
                _TITLES[names[0]],
                f"{name} {_VERSIONS[name]}, which is not installed ({error})",
                f"apt install {APT_PACKAGES[name]}",
            ) from error
    return modules
