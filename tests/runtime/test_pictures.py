"""Picture files as a camera would have given them, or refused by name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import PictureError, StorageError
from ssn_edge_runtime.pictures import decode_picture, encode_png, is_cut_short, read_picture


def surface(channels: int | None = 3) -> ByteImage:
    rng = np.random.default_rng(5)
    size = (40, 50) if channels is None else (40, 50, channels)
    noise = rng.integers(0, 256, size, dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (5, 5), 2), dtype=np.uint8)


def encoded(picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], suffix: str) -> bytes:
    return bytes(cv2.imencode(suffix, picture)[1])


def png(colour_type: int, bits: int, rows: list[bytes], width: int) -> bytes:
    """A PNG of any kind, also those that OpenCV does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">2I5B", width, len(rows), bits, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
@pytest.mark.parametrize("channels", [None, 3])
def test_a_lossless_picture_comes_back_as_it_was(
    suffix: str, channels: int | None, tmp_path: Path
) -> None:
    picture = surface(channels)
    path = tmp_path / f"part{suffix}"
    path.write_bytes(encoded(picture, suffix))
    np.testing.assert_array_equal(read_picture(path), picture)


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_a_lossy_picture_comes_back_alike(suffix: str) -> None:
    picture = surface()
    decoded = decode_picture(encoded(picture, suffix), "part")
    assert decoded.shape == picture.shape
    assert abs(decoded.astype(int) - picture).mean() < 6


@given(data=st.binary(min_size=12, max_size=12), compression=st.integers(0, 9))
def test_encoding_as_png_loses_nothing(data: bytes, compression: int) -> None:
    for shape in ((2, 2, 3), (3, 4)):
        picture = np.frombuffer(data, np.uint8).reshape(shape)
        coded = encode_png(picture, compression=compression)
        np.testing.assert_array_equal(decode_picture(coded, "x"), picture)


def test_an_opaque_alpha_channel_is_dropped() -> None:
    picture = surface(4)
    picture[:, :, 3] = 255
    np.testing.assert_array_equal(decode_picture(encoded(picture, ".png"), "x"), picture[:, :, :3])


def test_real_transparency_is_refused() -> None:
    picture = surface(4)
    picture[:, :, 3] = 255
    picture[0, 0, 3] = 254
    with pytest.raises(PictureError, match=r"^part\.png: has transparent pixels"):
        decode_picture(encoded(picture, ".png"), "part.png")


def test_grey_with_an_opaque_alpha_channel_is_taken() -> None:
    decoded = decode_picture(png(4, 8, [bytes([10, 255, 20, 255])] * 2, 2), "x")
    assert decoded.reshape(2, 2, -1)[:, :, 0].tolist() == [[10, 20]] * 2


def test_a_picture_of_one_bit_has_levels_0_and_255() -> None:
    assert decode_picture(png(0, 1, [b"\xa0"], 4), "x").tolist() == [[255, 0, 255, 0]]


@pytest.mark.parametrize(("dtype", "bits"), [(np.uint16, 16), (np.float32, 32)])
def test_more_than_8_bits_are_refused(dtype: type, bits: int) -> None:
    data = encoded(surface(None).astype(dtype), ".tif")
    with pytest.raises(PictureError, match=f"has {bits} bits a channel, 8 are needed"):
        decode_picture(data, "x")


def test_two_channels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: np.zeros((4, 4, 2), np.uint8))
    with pytest.raises(PictureError, match="has 2 channels"):
        decode_picture(b"x", "x")


def test_a_camera_has_no_orientation_flag() -> None:
    jpeg = encoded(surface(), ".jpg")
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    turned = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
    np.testing.assert_array_equal(decode_picture(turned, "x"), decode_picture(jpeg, "x"))


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True), suffix=st.sampled_from([".png", ".jpg", ".bmp"]))
def test_a_picture_cut_short_anywhere_is_refused(share: float, suffix: str) -> None:
    data = encoded(surface(), suffix)
    with pytest.raises(PictureError, match=r"^part: "):
        decode_picture(data[: int(share * len(data))], "part")


def test_only_the_end_of_the_picture_itself_counts() -> None:
    jpeg = encoded(surface(), ".jpg")
    assert not is_cut_short(jpeg)
    assert not is_cut_short(jpeg + bytes(16))
    # A thumbnail within the header has an end of its own.
    thumbnail = b"\xff\xe1" + struct.pack(">H", len(jpeg) + 2) + jpeg
    nested = jpeg[:2] + thumbnail + jpeg[2:]
    assert not is_cut_short(nested)
    assert is_cut_short(nested[:-2])
    assert not is_cut_short(b"something else")


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(PictureError, match=r"^part: "):
        decode_picture(data, "part")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.png", tmp_path):
        with pytest.raises(PictureError, match="cannot be read") as caught:
            read_picture(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("picture", [np.zeros((0, 4), np.uint8), np.ones((4, 4), np.bool_)])
def test_what_cannot_be_encoded_without_loss_is_refused(picture: ByteImage) -> None:
    with pytest.raises(StorageError, match="cannot be encoded as PNG"):
        encode_png(picture)
