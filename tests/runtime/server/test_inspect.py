from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ssn_edge_runtime import Inspector
from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.decision import Decision, Reason, Verdict
from ssn_edge_runtime.server import InspectionServer, ListenAddress
from tests.runtime.server.clients import RAW, Client, Reply, ask, inspect, raw_path

Serve = Callable[..., InspectionServer]
Part = Callable[..., ByteImage]


def test_a_raw_frame_gets_the_very_decision_of_the_inspector(
    serve: Serve, inspector: Inspector, listen: ListenAddress, part: Part
) -> None:
    server = serve(inspector, listen)
    for frame in (part(11), part(12, defect=True), part(13, size_hw=(70, 90))):
        reply = inspect(server.address, frame, part_id="tray-7/3")
        wanted = inspector.inspect(frame)
        assert reply.verdict == (200, wanted.verdict.value, wanted.reason.value)
        assert reply.body["raw_score"] == wanted.raw_score
        assert (reply.body["score"], reply.body["threshold"]) == (wanted.score, wanted.threshold)
        assert reply.body["defect_count"] == len(reply.body["defects"]) == len(wanted.defects)
        assert [each["box_xyxy"] for each in reply.body["defects"]] == [
            list(each.box_xyxy) for each in wanted.defects
        ]
        assert reply.body["part_id"] == "tray-7/3"


def test_an_answer_says_what_decided_and_how_long_it_took(
    serve: Serve, inspector: Inspector, unix: ListenAddress, part: Part
) -> None:
    body = inspect(serve(inspector, unix).address, part(11)).body
    assert body["package_id"] == inspector.package_id
    assert body["precision"] == "fp32"
    assert body["engine"] == "onnxruntime-cpu"
    assert body["engine_sha256"] == inspector.engine_sha256
    timings = body["timings_ms"]
    assert all(ms >= 0 for ms in timings.values())
    assert timings["total"] >= timings["preprocess"] + timings["infer"] + timings["postprocess"]


def test_a_mono_frame_is_judged_as_one(
    serve: Serve, inspector: Inspector, unix: ListenAddress, part: Part
) -> None:
    mono = np.ascontiguousarray(part(11, defect=True)[:, :, 0])
    reply = inspect(serve(inspector, unix).address, mono)
    assert reply.body["raw_score"] == inspector.inspect(mono).raw_score


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg"])
def test_a_picture_is_judged_as_its_pixels_are(
    serve: Serve, inspector: Inspector, unix: ListenAddress, part: Part, suffix: str
) -> None:
    frame = part(12, defect=True)
    data = cv2.imencode(suffix, frame)[1].tobytes()
    if suffix == ".jpg":
        frame = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    for content_type in ("image/png", "IMAGE/x-whatever; q=1"):
        reply = ask(
            serve(inspector, unix).address if content_type == "image/png" else unix,
            "POST", "/v1/inspect", data, {"Content-Type": content_type},
        )  # fmt: skip
        assert reply.verdict == (200, "fail", "defect")
        assert reply.body["raw_score"] == inspector.inspect(frame).raw_score


def test_the_mask_comes_on_request_as_png_in_camera_pixels(
    serve: Serve, inspector: Inspector, unix: ListenAddress, part: Part
) -> None:
    server = serve(inspector, unix)
    frame = part(12, defect=True)
    assert "mask_png" not in inspect(server.address, frame).body
    text = inspect(server.address, frame, mask=1).body["mask_png"]
    mask = cv2.imdecode(
        np.frombuffer(base64.b64decode(text, validate=True), np.uint8), cv2.IMREAD_UNCHANGED
    )
    wanted = inspector.inspect(frame).camera_mask()
    assert wanted is not None
    assert wanted.any()
    assert np.array_equal(mask == 255, wanted)
    black = np.zeros_like(frame)
    assert inspect(server.address, black, mask=1).body["mask_png"] is None


def test_a_frame_that_is_no_picture_of_a_part_is_unknown_with_its_reason(
    serve: Serve, inspector: Inspector, unix: ListenAddress
) -> None:
    black = np.zeros((96, 128, 3), np.uint8)
    reply = inspect(serve(inspector, unix).address, black)
    assert reply.verdict == (200, "unknown", "bad_exposure")
    assert reply.body["detail"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (RuntimeError("driver\ngone"), "engine_error"),
        (MemoryError(), "engine_error"),
        (None, "invalid_output"),
        ("pass", "invalid_output"),
        (Decision(Verdict.PASS, Reason.DEFECT), "invalid_output"),
        (Decision(Verdict.PASS, Reason.NONE, score=float("nan")), "invalid_output"),
        (Decision(Verdict.PASS, Reason.NONE, raw_score=1.0, threshold=1.0), "invalid_output"),
    ],
)
def test_a_judge_that_fails_or_talks_nonsense_is_an_error_and_unknown(
    serve: Serve, held: Any, unix: ListenAddress, part: Part, answer: Any, reason: str
) -> None:
    server = serve(held(answer, is_held=False), unix)
    reply = inspect(server.address, part(1))
    assert reply.verdict == (500, "unknown", reason)
    assert b"pass" not in json.dumps(reply.body).encode() or reason == "invalid_output"
    assert "\n" not in reply.body["detail"]
    assert ask(server.address, "GET", "/readyz").status == 200


GOOD = "/v1/inspect?height=96&width=128&channels=3"
BODY = bytes(96 * 128 * 3)
PNG = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "says"),
    [
        ("POST", "/v1/inspect", BODY, RAW, 400, "height, width and channels"),
        ("POST", GOOD + "&mask=2", BODY, RAW, 400, "mask is '2'"),
        ("POST", GOOD + "&mask=1&mask=1", BODY, RAW, 400, "twice"),
        ("POST", GOOD + "&thresold=3", BODY, RAW, 400, "'thresold'"),
        ("POST", GOOD + "&deadline_ms=0", BODY, RAW, 400, "deadline_ms"),
        ("POST", GOOD + "&deadline_ms=nan", BODY, RAW, 400, "deadline_ms"),
        ("POST", GOOD + "&deadline_ms=60001", BODY, RAW, 400, "deadline_ms"),
        ("POST", GOOD + "&part_id=", BODY, RAW, 400, "part_id"),
        ("POST", GOOD + "&part_id=%22%2C%22verdict%22%3A%22pass%22", BODY, RAW, 400, "part_id"),
        ("POST", GOOD.replace("=3", "=2"), BODY, RAW, 400, "channels is '2'"),
        ("POST", GOOD.replace("96", "-96"), BODY, RAW, 400, "height is '-96'"),
        ("POST", GOOD.replace("96", "0"), BODY, RAW, 400, "height is '0'"),
        ("POST", GOOD.replace("96", "9" * 30), BODY, RAW, 400, "height"),
        ("POST", GOOD.replace("96", "1000000"), BODY, RAW, 413, "pixels"),
        ("POST", GOOD, BODY[1:], RAW, 422, "36863 bytes"),
        ("POST", GOOD, b"", RAW, 422, "0 bytes"),
        ("POST", GOOD, BODY, {}, 415, "Content-Type"),
        ("POST", GOOD, BODY, {"Content-Type": "text/plain"}, 415, "'text/plain'"),
        ("POST", GOOD, PNG, {"Content-Type": "image/png"}, 400, "a picture tells its size"),
        ("POST", "/v1/inspect", b"GIF89a....", {"Content-Type": "image/gif"}, 415, "no PNG"),
        ("POST", "/v1/inspect", b"", {"Content-Type": "image/png"}, 415, "no PNG"),
        ("POST", "/v1/inspect", PNG[:-20], {"Content-Type": "image/png"}, 422, "cut short"),
        ("GET", "/v1/inspect", None, {}, 405, "takes POST"),
        ("DELETE", "/v1/state", None, {}, 405, "takes GET, HEAD"),
        ("OPTIONS", "/v1/inspect", None, {}, 405, "takes POST"),
        ("POST", "/healthz", b"", {}, 405, "takes GET"),
        ("GET", "/", None, {}, 404, "/v1/inspect"),
        ("GET", "/v1/../v1/state", None, {}, 404, "no such path"),
        ("POST", "/v1/trigger", b"{}", {}, 404, "no such path"),
        ("GET", "/v1/state?x=1", None, {}, 400, "none is wanted"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_an_error_status_unknown_and_one_line(
    serve: Serve, inspector: Inspector, unix: ListenAddress,
    method: str, path: str, body: bytes | None, headers: dict[str, str], status: int, says: str,
) -> None:  # fmt: skip
    server = serve(inspector, unix)
    client = Client(server.address)
    reply = ask(client, method, path, body, headers)
    assert reply.status == status
    assert reply.verdict[1] == "unknown"
    assert says in reply.body["detail"]
    assert "\n" not in reply.body["detail"]
    assert '"pass"' not in json.dumps(reply.body)
    assert ask(client, "GET", "/healthz").status == 200, "the connection serves on"
    client.close()


def test_an_answer_for_every_error_has_all_fields_of_a_decision(
    serve: Serve, inspector: Inspector, unix: ListenAddress, part: Part
) -> None:
    server = serve(inspector, unix)
    assert (
        ask(server.address, "GET", "/nowhere").body.keys()
        == inspect(server.address, part(1)).body.keys()
    )


def test_one_connection_serves_many_frames_in_order(
    serve: Serve, inspector: Inspector, listen: ListenAddress, part: Part
) -> None:
    client = Client(serve(inspector, listen).address)
    frames = [part(seed, defect=seed % 3 == 0) for seed in range(1, 13)]
    verdicts = [inspect(client, frame, part_id=index).body for index, frame in enumerate(frames)]
    client.close()
    assert [each["part_id"] for each in verdicts] == [str(index) for index in range(12)]
    assert [each["verdict"] for each in verdicts] == [
        inspector.inspect(frame).verdict for frame in frames
    ]


def test_a_page_in_a_browser_cannot_drive_it(
    serve: Serve, inspector: Inspector, tcp: ListenAddress, part: Part
) -> None:
    address = serve(inspector, tcp).address
    frame = part(1)

    def send(**headers: str) -> Reply:
        return ask(address, "POST", raw_path(frame), frame.tobytes(), {**RAW, **headers})

    assert send().status == 200
    for host in ("localhost", f"localhost:{address.port}", f"[::1]:{address.port}", "127.0.0.1"):
        assert send(Host=host).status == 200, host
    for origin in ("null", "http://evil.example", f"http://127.0.0.1:{address.port}"):
        assert send(Origin=origin).verdict == (403, "unknown", "no_frame")
    for host in ("evil.example", f"evil.example:{address.port}", "localhost.evil.example", ""):
        reply = send(Host=host)
        assert reply.verdict == (403, "unknown", "no_frame")
        assert "Access-Control-Allow-Origin" not in reply.headers


def test_state_counts_verdicts_refusals_and_latencies(
    serve: Serve, inspector: Inspector, unix: ListenAddress, part: Part
) -> None:
    address = serve(inspector, unix, status=lambda: {"state": "Ready", "open": 0}).address
    for defect in (False, True, False):
        inspect(address, part(1, defect=defect))
    ask(address, "GET", "/nowhere")
    state = ask(address, "GET", "/v1/state").body
    assert state["state"] == "Ready"
    assert state["verdicts"] == {"pass": 2, "fail": 1, "unknown": 0}
    assert state["refusals"] == {"404": 1}
    assert state["latency_ms"]["total"]["count"] == 3
    assert state["package_id"] == inspector.package_id
    assert state["line"] == {"state": "Ready", "open": 0}


def test_a_line_whose_state_cannot_be_told_is_an_error(
    serve: Serve, inspector: Inspector, unix: ListenAddress
) -> None:
    def status() -> dict[str, object]:
        raise OSError("shared memory is gone")

    reply = ask(serve(inspector, unix, status=status).address, "GET", "/v1/state")
    assert reply.verdict == (500, "unknown", "engine_error")


def test_head_is_answered_without_a_body(
    serve: Serve, inspector: Inspector, unix: ListenAddress
) -> None:
    client = Client(serve(inspector, unix).address)
    assert ask(client, "HEAD", "/healthz").body is None
    assert ask(client, "HEAD", "/v1/inspect").status == 405
    assert ask(client, "GET", "/healthz").body == {"alive": True}
    client.close()


def open_handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_handle_is_left(
    serve: Serve, inspector: Inspector, unix: ListenAddress, part: Part
) -> None:
    before = open_handles()
    with InspectionServer(inspector, unix) as server:
        for _ in range(5):
            inspect(server.address, part(1))
    assert open_handles() == before
