from __future__ import annotations

from pathlib import Path

import pytest

from ssn_edge_runtime.errors import ConfigError, SourceError
from ssn_edge_runtime.line.devices import cameras_of

GSTREAMER = "gst:videotestsrc pattern=ball ! video/x-raw,width=64 ?stamps=exposure"


@pytest.mark.parametrize(
    "device",
    ["/dev/video0", "test:?width=64&fps=20", GSTREAMER, "rtsp://user:pass=word@cam/s?channel=1"],
)
def test_a_source_alone_is_the_camera_whatever_signs_it_has(device: str) -> None:
    assert cameras_of([device]) == {"camera": device}


def test_each_of_several_cameras_has_its_name_and_they_keep_their_order() -> None:
    devices = ["top-2=test:?fps=20", f"left={GSTREAMER}", "right=/dev/video1"]
    assert list(cameras_of(devices).items()) == [
        ("top-2", "test:?fps=20"), ("left", GSTREAMER), ("right", "/dev/video1"),
    ]  # fmt: skip
    assert cameras_of(["left=0"]) == {"left": "0"}


def test_a_recording_with_an_equals_sign_in_its_name_is_that_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lot=7").mkdir()
    assert cameras_of(["lot=7"]) == {"camera": "lot=7"}
    with pytest.raises(SourceError, match="nothing of that name"):
        cameras_of(["lot=eight"])


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (["test:", "test:"], "of several cameras each has a name"),
        (["a=test:", "test:"], "of several cameras each has a name"),
        (["a=test:", "rtsp://u:secret@cam/1"], "each has a name"),
        (["a=test:", "a=/dev/video0"], "stands there twice"),
        (["a=tset:"], "tset: is no source"),
        ([], "needs a camera"),
    ],
)
def test_names_that_cannot_be_told_apart_are_refused(devices: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        cameras_of(devices)
    assert "secret" not in str(caught.value)
