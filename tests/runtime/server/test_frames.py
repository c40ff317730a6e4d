from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssn_edge_runtime.decision import Verdict
from ssn_edge_runtime.server.answers import Refusal
from ssn_edge_runtime.server.frames import (
    RawShape,
    frame_of_picture,
    frame_of_pixels,
    picture_size_hw,
)
from ssn_edge_runtime.verdict_codes import VerdictCode, verdict_code

SIDES = st.integers(1, 70)


@given(SIDES, SIDES, st.sampled_from([".png", ".jpg", ".bmp"]), st.booleans(), st.booleans())
def test_the_size_a_picture_claims_is_the_size_it_is_decoded_to(
    height: int, width: int, suffix: str, colour: bool, progressive: bool
) -> None:
    image = np.full((height, width, 3) if colour else (height, width), 77, np.uint8)
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)] if suffix == ".jpg" else []
    data = cv2.imencode(suffix, image, options)[1]
    assert picture_size_hw(data.tobytes()) == (height, width)
    assert frame_of_picture(data, max_pixels=70 * 70).shape[:2] == (height, width)


@given(
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"\xff\xd8\xff", b"BM"]), st.binary()
)
def test_noise_with_a_pictures_first_bytes_is_refused_and_nothing_else_happens(
    start: bytes, noise: bytes
) -> None:
    with pytest.raises(Refusal) as caught:
        frame_of_picture(np.frombuffer(start + noise, np.uint8), max_pixels=1 << 20)
    assert caught.value.status in (413, 415, 422)


@given(SIDES, SIDES, st.sampled_from([1, 3]))
def test_raw_pixels_are_seen_as_a_frame_without_a_copy(
    height: int, width: int, channels: int
) -> None:
    shape = RawShape(height, width, channels)
    body = np.arange(shape.size_bytes, dtype=np.int64).astype(np.uint8)
    frame = frame_of_pixels(body, shape)
    assert frame.shape == ((height, width) if channels == 1 else (height, width, 3))
    assert np.shares_memory(frame, body)
    assert np.array_equal(frame.ravel(), body)


def test_no_flipped_bit_turns_one_verdict_code_into_another() -> None:
    codes = list(VerdictCode)
    for one in codes:
        for other in codes:
            assert one is other or bin(one ^ other).count("1") >= 8
    assert [verdict_code(verdict) for verdict in (*Verdict, None)] == [
        0x5AA5, 0xA55A, 0x3CC3, 0,
    ]  # fmt: skip
