from __future__ import annotations

import contextlib
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge_runtime.errors import ConfigError, SourceError
from ssn_edge_runtime.sources import (
    GenicamSource,
    GStreamerSource,
    KernelV4l2Source,
    RtspSource,
    Scheme,
    SourceAddress,
    SourceOptions,
    TestPatternSource,
    TriggerMode,
    WatchedFolderSource,
    open_source,
    parse_address,
)
from ssn_edge_runtime.sources.options import FaultKind, InjectedFault


@pytest.mark.parametrize(
    ("text", "scheme", "target", "options"),
    [
        ("/dev/video2", Scheme.V4L2, "/dev/video2", SourceOptions()),
        ("2", Scheme.V4L2, "/dev/video2", SourceOptions()),
        ("v4l2:/dev/video0", Scheme.V4L2, "/dev/video0", SourceOptions()),
        ("v4l2:3", Scheme.V4L2, "/dev/video3", SourceOptions()),
        (
            "v4l2:/dev/video0?width=1280&height=720&format=MJPG&fps=30&exposure=500&gain=12",
            Scheme.V4L2,
            "/dev/video0",
            SourceOptions(1280, 720, "MJPG", 30.0, 500.0, 12.0),
        ),
        (
            "v4l2:/dev/video0?exposure=auto&gain=auto",
            Scheme.V4L2,
            "/dev/video0",
            SourceOptions(exposure="auto", gain="auto"),
        ),
        (
            "rtsp://user:pass@10.0.0.2:554/live?channel=1&stream=0",
            Scheme.RTSP,
            "rtsp://user:pass@10.0.0.2:554/live?channel=1&stream=0",
            SourceOptions(),
        ),
        (
            "rtsp://camera/live?a=b#transport=udp",
            Scheme.RTSP,
            "rtsp://camera/live?a=b",
            SourceOptions(transport="udp"),
        ),
        (
            "gst:nvarguscamerasrc ! nvvidconv ! video/x-raw,format=BGRx",
            Scheme.GSTREAMER,
            "nvarguscamerasrc ! nvvidconv ! video/x-raw,format=BGRx",
            SourceOptions(),
        ),
        (
            "gst:souphttpsrc location=http://c/?a=b ! decodebin ?stamps=exposure",
            Scheme.GSTREAMER,
            "souphttpsrc location=http://c/?a=b ! decodebin",
            SourceOptions(stamps="exposure"),
        ),
        (
            "genicam:192.168.0.5?packet_size=8000&trigger=line&line=Line0",
            Scheme.GENICAM,
            "192.168.0.5",
            SourceOptions(packet_size=8000, trigger=TriggerMode.LINE, line="Line0"),
        ),
        ("genicam:", Scheme.GENICAM, "", SourceOptions()),
        ("watch:in/coming?existing=yes", Scheme.WATCH, "in/coming", SourceOptions(existing=True)),
        (
            "test:?width=64&fault=frozen@5,lost@9x2",
            Scheme.TEST,
            "",
            SourceOptions(
                width=64,
                faults=(InjectedFault(FaultKind.FROZEN, 5), InjectedFault(FaultKind.LOST, 9, 2)),
            ),
        ),
    ],
)
def test_an_address_is_taken_apart(
    text: str, scheme: Scheme, target: str, options: SourceOptions
) -> None:
    assert parse_address(text) == SourceAddress(scheme, target, options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rtps://camera/1", "rtps: is no source; did you mean rtsps?"),
        ("file:///tmp/x.avi", "file: is no source"),
        ("genicm:x", "did you mean genicam?"),
        ("v4l2:/dev/video0?widht=5", "widht is no option here; did you mean width?"),
        ("v4l2:/dev/video0?width=wide", "width=wide: a whole number from 1 to 65535"),
        ("v4l2:/dev/video0?width=0", "a whole number from 1"),
        ("v4l2:/dev/video0?fps=nan", "a number from 0.001"),
        ("v4l2:/dev/video0?exposure=long", "or auto is wanted|, or auto"),
        ("v4l2:/dev/video0?width", "width has no value"),
        ("v4l2:/dev/video0?width=", "width has no value"),
        ("v4l2:/dev/video0?width=5&width=5", "width stands there twice"),
        ("v4l2:/dev/video0?packet_size=1500", "packet_size is no option here"),
        ("v4l2:camera", "a device file is wanted"),
        ("/dev/video0?width=5", "settings need the scheme: v4l2:/dev/video0"),
        ("rtsp:camera", "a host is wanted"),
        ("rtsp://c:99999/x", "[Pp]ort"),
        ("rtsp://c/x#transport=tpc", "did you mean tcp?"),
        ("gst:", "a pipeline is wanted"),
        ("gst:videotestsrc ?stamps=capture", "Known here: exposure"),
        ("gst:rtspsrc location=x ! decodebin ?stamps=exposure", "for watching, not for triggers"),
        ("gst:uridecodebin uri=rtsps://c/s ?stamps=exposure", "for watching, not for triggers"),
        ("genicam:?line=Line1", "needs trigger=line"),
        ("watch:", "a folder is wanted"),
        ("test:frozen", "options come after a question mark"),
        ("test:?format=yuv", "bgr or mono is wanted"),
        ("test:?fault=frozn@5", "did you mean frozen?"),
        ("test:?fault=frozen", "KIND@FRAME"),
        ("test:?fault=frozen@0", "frame 0 has no faults"),
    ],
)
def test_a_wrong_address_is_told_in_one_line_with_exit_code_2(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")) as caught:
        parse_address(text)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_file_may_have_a_colon_in_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("line:3.avi").touch()
    assert parse_address("line:3.avi").scheme is Scheme.VIDEO


def test_a_password_shows_in_no_name_and_no_message() -> None:
    assert "secret" not in open_source("rtsp://user:secret@10.0.0.2/live").name
    assert "secret" not in open_source("gst:rtspsrc location=rtsp://u:secret@c/1").name
    for wrong in ("rtsp://user:secret@camera/x#transprot=tcp", "rtps://user:secret@camera/x"):
        with pytest.raises(ConfigError) as caught:
            parse_address(wrong)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("/dev/video0", KernelV4l2Source),
        ("rtsp://camera/1", RtspSource),
        ("gst:videotestsrc", GStreamerSource),
        ("genicam:", GenicamSource),
        ("test:", TestPatternSource),
    ],
)
def test_an_address_finds_its_source_without_opening_it(text: str, kind: type) -> None:
    pytest.importorskip("linuxpy", reason="linuxpy is not installed: pip install 'ssn-edge[v4l2]'")
    source = open_source(text)
    assert type(source) is kind
    assert source.is_live


def test_a_watched_folder_must_be_a_folder(tmp_path: Path) -> None:
    assert type(open_source(f"watch:{tmp_path}")) is WatchedFolderSource
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file; a folder is wanted"):
        open_source(f"watch:{tmp_path / 'file'}")


@given(
    st.one_of(
        st.text(),
        st.builds(
            "{}:{}?{}={}".format,
            st.sampled_from(["v4l2", "rtsp", "gst", "genicam", "watch", "test", "x"]),
            st.text(string.printable),
            st.sampled_from(["width", "fps", "gain", "fault", "trigger", "existing", "y"]),
            st.text(),
        ),
    )
)
def test_any_text_is_an_address_or_one_of_our_errors(text: str) -> None:
    if "\0" in text:  # no command line and no file name holds one
        return
    with contextlib.suppress(ConfigError, SourceError):
        parse_address(text)
