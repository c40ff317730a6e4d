from __future__ import annotations

import sys

import pytest

from ssn_edge_runtime.errors import SourceError
from ssn_edge_runtime.sources.gi_import import load_typelibs


@pytest.mark.parametrize("names", [("Gst", "GstVideo", "GstApp"), ("Aravis",)])
def test_a_python_without_gi_says_what_to_install_and_how_to_make_the_environment(
    names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gi", None)
    with pytest.raises(SourceError, match="--system-site-packages") as caught:
        load_typelibs(*names)
    assert "apt install python3-gi gir1.2-" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 5
