"""Opening the page without showing its address to other users of the machine."""

from __future__ import annotations

import contextlib
import html
import tempfile
import webbrowser
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def open_page(url: str) -> Iterator[None]:
    """Open a browser on a page; what leads there is deleted at the end.

    The address holds the token, and what a browser is started with is for all users to see. So it
    is started with a file that only its owner can read, and that leads on.
    """
    with tempfile.TemporaryDirectory(prefix="ssn-edge-review-") as folder:
        page = Path(folder) / "open.html"
        address = html.escape(url, quote=True)
        page.write_text(
            "<!DOCTYPE html><meta charset=utf-8><title>Review</title>"
            f'<meta http-equiv="refresh" content="0; url={address}">'
            f'<a href="{address}">Open the review</a>\n',
            encoding="utf-8",
        )
        webbrowser.open(page.as_uri())
        yield
