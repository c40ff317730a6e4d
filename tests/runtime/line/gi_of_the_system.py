"""GStreamer and Aravis of the distribution, for tests in an environment that does not see them."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

DIST_PACKAGES = "/usr/lib/python3/dist-packages"
SYSTEM_PYTHON = "/usr/bin/python3"


def need_typelibs(*names: str) -> None:
    """Make ``gi.repository.NAME`` importable in this process, or skip the module with the reason.

    Users make their environment with ``--system-site-packages``; here, the path is shown to the
    import of `gi` alone, so that no other test finds the distribution's packages.
    """
    from ssn_edge_runtime.errors import SourceError
    from ssn_edge_runtime.sources.gi_import import load_typelibs

    sys.path.append(DIST_PACKAGES)
    try:
        with warnings.catch_warnings():
            # PyGObject 3.42 still has an importer of the old kind.
            warnings.simplefilter("ignore", ImportWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            importlib.import_module("gi")
            load_typelibs(*names)
    except (ImportError, SourceError) as error:
        pytest.skip(f"needs the distribution's gi: {error}", allow_module_level=True)
    finally:
        sys.path.remove(DIST_PACKAGES)


def need_command(command: str, package: str) -> str:
    """The path of a command, or skip the module with the reason."""
    path = shutil.which(command)
    if path is None:
        pytest.skip(f"{command} is not installed: apt install {package}", allow_module_level=True)
    return path


def need_elements(*elements: str) -> None:
    """Skip the module if the distribution's GStreamer lacks an element."""
    code = (
        "import sys, gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', "
        "'1.0'); from gi.repository import Gst, GstRtspServer; Gst.init(None); "
        "print([e for e in sys.argv[1:] if Gst.ElementFactory.find(e) is None])"
    )
    if not Path(SYSTEM_PYTHON).exists():
        pytest.skip(f"there is no {SYSTEM_PYTHON}", allow_module_level=True)
    done = subprocess.run(
        [SYSTEM_PYTHON, "-c", code, *elements], capture_output=True, text=True, timeout=60
    )
    if done.returncode or done.stdout.strip() != "[]":
        pytest.skip(
            f"GStreamer lacks {done.stdout.strip() or done.stderr.strip()[-200:]}: apt install "
            "gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-{base,good,ugly} gstreamer1.0-libav",
            allow_module_level=True,
        )
