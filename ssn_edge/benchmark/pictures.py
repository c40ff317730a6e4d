"""The pictures that a benchmark judges: a package's golden ones, or those of a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ssn_edge_runtime.arrays import ByteImage
from ssn_edge_runtime.errors import ConfigError, PictureError
from ssn_edge_runtime.package import Package
from ssn_edge_runtime.pictures import decode_picture, read_picture
from ssn_edge_runtime.preprocess import FrameError, Geometry
from ssn_edge_runtime.sources.folder import FolderSource

MOST_PICTURES = 32
"""Taken one after the other, again and again; at 1280 x 1024 they take some 130 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class BenchmarkPicture:
    """One picture, and how it is had again.

    Args:
        name: For messages.
        frame: (H, W, 3) uint8 BGR or (H, W) uint8.
        read: Reads or decodes it once more.
    """

    name: str
    frame: ByteImage
    read: Callable[[], ByteImage]


def golden_pictures(package: Package) -> tuple[BenchmarkPicture, ...]:
    """The package's golden pictures; `read` decodes them from memory.

    Raises:
        ConfigError: It holds none.
    """
    names = [golden.picture for golden in package.manifest.golden][:MOST_PICTURES]
    if not names:
        raise ConfigError(
            f"{package.path}: holds no golden pictures; name a folder of pictures: --data FOLDER"
        )
    pictures = []
    for name in names:
        read = partial(decode_picture, package.read(name), name)
        pictures.append(BenchmarkPicture(name, read(), read))
    return tuple(pictures)


def folder_pictures(path: Path) -> tuple[BenchmarkPicture, ...]:
    """The first pictures of a folder, or one picture; `read` reads the file again.

    Raises:
        SourceError: The folder is missing, unreadable or holds no picture.
        PictureError: A picture that cannot be used.
    """
    pictures: list[BenchmarkPicture] = []
    with FolderSource(path) as source:
        while len(pictures) < MOST_PICTURES and (taken := source.read(0)) is not None:
            assert taken.path is not None  # a folder's frames are files
            read = partial(read_picture, taken.path)
            pictures.append(BenchmarkPicture(str(taken.path), taken.image, read))
    return tuple(pictures)


def check_pictures(pictures: tuple[BenchmarkPicture, ...], geometry: Geometry) -> None:
    """Refuse pictures that are smaller than the region of interest.

    Raises:
        PictureError: By name.
    """
    for picture in pictures:
        try:
            geometry.region_xywh((picture.frame.shape[0], picture.frame.shape[1]))
        except FrameError as error:
            raise PictureError(
                f"{picture.name}: {error}; name pictures of the package's camera: --data FOLDER"
            ) from error


def other_sizes(
    pictures: tuple[BenchmarkPicture, ...], frame_size_hw: tuple[int, int] | None
) -> str:
    """A remark on pictures of another size than the camera's; empty if there are none.

    Args:
        pictures: What is judged.
        frame_size_hw: The camera's height and width; None where the package does not tell.
    """
    count = sum(picture.frame.shape[:2] != frame_size_hw for picture in pictures)
    if frame_size_hw is None or count == 0:
        return ""
    height, width = frame_size_hw
    return (
        f"{count} of {len(pictures)} pictures have another size than the training pictures' "
        f"{width} x {height} pixels and would be unknown on the line"
    )
