"""Whether a picture is the one that was judged, and the one that was labelled."""

from __future__ import annotations

from ssn_edge.review.kept_pictures import KeptPicture
from ssn_edge_runtime.errors import DatasetError
from ssn_edge_runtime.pictures import read_picture
from ssn_edge_runtime.record import frame_sha256


def checked_frame(picture: KeptPicture) -> tuple[str, int, int]:
    """Hash, height and width of a picture that is there, whole and the one that was judged.

    Raises:
        PictureError: It cannot be read.
        DatasetError: Its pixels are not those that the log states.
    """
    pixels = read_picture(picture.path)
    found = frame_sha256(pixels)
    stated = None if picture.part is None else picture.part.frame_sha256
    if stated is not None and stated != found:
        raise DatasetError(
            f"{picture.path}: is not the picture that the line judged (its pixels have the hash "
            f"{found[:16]}..., the log has {stated[:16]}...); leave it out, and run ssn-edge audit"
        )
    return found, pixels.shape[0], pixels.shape[1]
