"""A folder of pictures, or one picture, as a recorded line: each file is a part."""

from __future__ import annotations

from pathlib import Path

from ssn_edge_runtime.errors import PictureError, SourceError
from ssn_edge_runtime.pictures import PICTURE_SUFFIXES, read_picture
from ssn_edge_runtime.sources.base import DamagedFrame, Frame, Source


class FolderSource(Source):
    """Pictures in the order of their names; the part id is the name relative to the folder.

    The list of files is made on opening. Hidden files and other suffixes are not parts; a picture
    that cannot be read is one, and `read` raises `DamagedFrame` for it.

    Args:
        path: A folder, or a single picture.
        recursive: Whether pictures in folders below count.
    """

    is_live = False
    tells_exposure = False

    def __init__(self, path: Path, *, recursive: bool = False) -> None:
        self._path = path
        self._recursive = recursive
        self._parts: list[tuple[str, Path]] = []
        self._index = 0

    @property
    def name(self) -> str:
        """The path as it was given."""
        return str(self._path)

    def open(self) -> None:
        """List the pictures.

        Raises:
            SourceError: The folder is missing, unreadable or holds no picture.
        """
        self._index = 0
        if self._path.is_file():
            self._parts = [(self._path.name, self._path)]
            return
        try:
            found = sorted(self._path.rglob("*") if self._recursive else self._path.iterdir())
        except OSError as error:
            raise SourceError(f"{self._path}: cannot be listed ({error.strerror})") from error
        parts = ((path.relative_to(self._path), path) for path in found)
        self._parts = [
            (relative.as_posix(), path)
            for relative, path in parts
            if path.suffix.lower() in PICTURE_SUFFIXES
            and not any(step.startswith(".") for step in relative.parts)
            and not path.is_dir()
        ]
        if not self._parts:
            raise SourceError(
                f"{self._path}: holds no pictures ({', '.join(PICTURE_SUFFIXES)}); "
                "folders below are looked into only on request"
            )

    def read(self, timeout_s: float) -> Frame | None:
        """Read the next picture; a recording knows no timeout.

        Raises:
            DamagedFrame: This picture cannot be used; the next call gives the one after it.
        """
        if self._index >= len(self._parts):
            return None
        index = self._index
        self._index += 1
        part_id, path = self._parts[index]
        try:
            image = read_picture(path)
        except PictureError as error:
            raise DamagedFrame(str(error), index=index, part_id=part_id) from error
        return Frame.taken_now(image, source=self.name, index=index, part_id=part_id, path=path)

    def close(self) -> None:
        """Forget the list."""
        self._parts = []
