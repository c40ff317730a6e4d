from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssn_edge.data_check import Kind, write_page
from ssn_edge.data_check.page import MOST_FINDINGS, MOST_PICTURES, render
from ssn_edge.evaluation.overlays import TRUTH_RGB
from ssn_edge_runtime.errors import StorageError
from tests.ssn_edge.data_check.conftest import Parts, mask, surface, write

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Page(HTMLParser):
    """Collects what a browser would act on."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def pictures(html: str) -> list[np.ndarray]:
    """Every picture of a page, (h, w, 3) BGR."""
    found = []
    for data in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html):
        encoded = np.frombuffer(base64.b64decode(data), np.uint8)
        found.append(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
    return found


def test_copies_are_shown_side_by_side(parts: Parts) -> None:
    shutil.copy(parts.train(3), parts.good(2))
    html = render(parts.check())
    text = Page(html).text
    assert "Copies in train and test" in text
    assert "test/good/002.png test, normal" in text
    assert "train/good/003.png train, normal" in text
    first, second = pictures(html)
    assert first.shape == second.shape
    assert np.abs(first.astype(int) - second).max() == 0


def test_a_mask_is_outlined_on_its_picture(parts: Parts) -> None:
    write(parts.mask(1), 255 - mask(at=11))
    html = render(parts.check())
    (picture,) = pictures(html)
    distance = np.abs(picture.astype(int) - TRUTH_RGB[::-1]).max(axis=2)
    assert (distance < 40).sum() > 100
    assert "its mask" in Page(html).text


def test_a_picture_that_cannot_be_read_is_shown_as_such(parts: Parts) -> None:
    parts.train(2).write_bytes(b"")
    html = render(parts.check())
    assert pictures(html) == []
    assert "is empty not readable train/good/002.png" in Page(html).text


def test_many_findings_are_capped_with_their_count(parts: Parts) -> None:
    count = MOST_FINDINGS + 6
    for number in range(count):
        (parts.root / f"train/good/x{number:03d}.png").write_bytes(b"")
    for number in range(MOST_PICTURES + 3):
        shutil.copy(parts.train(1), parts.root / f"train/good/y{number:03d}.png")
    report = parts.check()
    assert report.count(Kind.UNREADABLE) == count
    text = Page(render(report)).text
    assert f"Files that cannot be read {MOST_FINDINGS} of {count} shown" in text
    assert "and 4 more" in text


def test_nothing_found_is_said(parts: Parts) -> None:
    page = Page(render(parts.check()))
    assert "Nothing was found" in page.text
    assert "img" not in page.tags


def test_hostile_names_stay_text_and_nothing_is_loaded(tmp_path: Path) -> None:
    name = '"><script>alert(1)<&img src=x onerror=alert(1)>'
    root = tmp_path / "<b>parts"
    for folder in ("train/good", f"test/{name}"):
        write(root / folder / f"{name}.png", surface(1))
    html = render(Parts(root).check())
    page = Page(html)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert name in page.text
    assert "<b>parts" in page.text
    assert not [each for each, _ in page.attributes if each.startswith("on") or each == "style"]
    loaded = [value for each, value in page.attributes if each == "src"]
    assert len(loaded) == page.tags.count("img") > 0
    assert all(value.startswith("data:image/jpeg;base64,") for value in loaded)
    links = [value for each, value in page.attributes if each == "href"]
    assert all(value.startswith("#") for value in links)


def test_the_security_policy_allows_its_own_style_alone(parts: Parts) -> None:
    html = render(parts.check())
    style = re.search("<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'" in html
    assert html.startswith("<!DOCTYPE html>")


def test_a_page_that_cannot_be_written_leaves_nothing(parts: Parts, tmp_path: Path) -> None:
    (tmp_path / "out" / "page.html").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"page\.html cannot be written"):
        write_page(parts.check(), tmp_path / "out" / "page.html")
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["page.html"]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH to look at the page with")
def test_a_browser_draws_the_page(parts: Parts, tmp_path: Path) -> None:
    shutil.copy(parts.train(3), parts.good(2))
    write_page(parts.check(), tmp_path / "page.html")
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--hide-scrollbars"]
    command += [f"--screenshot={tmp_path / 'page.png'}", "--window-size=1000,1000"]
    command += [(tmp_path / "page.html").as_uri()]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    drawn = cv2.imread(str(tmp_path / "page.png"), cv2.IMREAD_COLOR)
    assert drawn is not None
    red_chip = np.array([217, 227, 251])  # so the styles work
    assert np.any(np.all(np.abs(drawn.astype(int) - red_chip) < 4, axis=2))
    assert len(np.unique(drawn[:, :, 0])) > 100  # and the pictures are there
