"""The report's page in a real browser: light, dark, on a phone and on paper."""

from __future__ import annotations

import html as escaping
import json
import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest

from kbpg.report.pages import html

from .validation_world import document, world

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: apt-get install chromium"),
]
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    # Nothing is to be fetched: whatever would be, fails
    "--proxy-server=127.0.0.1:9",
    "--enable-logging=stderr",
)
DARK = ("--blink-settings=preferredColorScheme=0",)
PHONE, SCREEN = 390, 1100
MEASURE = """
<script>
addEventListener("load", () => {
  const view = document.querySelector("iframe").contentWindow, page = view.document, root = page.documentElement;
  const style = (selector, name) => view.getComputedStyle(page.querySelector(selector))[name];
  const wide = [...page.querySelectorAll("body *")].filter(e => !e.closest("svg") && !e.closest(".table")
    && e.getBoundingClientRect().right > view.innerWidth + 0.5).map(e => e.outerHTML.slice(0, 80));
  const result = {
    viewport: view.innerWidth, width: root.scrollWidth, height: root.scrollHeight, wide,
    background: style("body", "backgroundColor"), text: style("body", "color"),
    quiet: style("summary .said", "color"), card: style(".panel", "backgroundColor"),
    good: style(".passed .mark", "color"), verdict: style(".verdict .word", "color"),
    drawn: ["wide", "tall"].filter(n => style("svg." + n, "display") !== "none"),
    overflowing: [...page.querySelectorAll("svg .card")].filter(card => card.getBBox().width > 1)
      .filter(card => card.getBBox().x < -1 || card.getBBox().x + card.getBBox().width > 233)
      .map(card => card.textContent.trim()),
  };
  document.body.innerHTML = "";
  document.body.appendChild(Object.assign(document.createElement("pre"), {id: "measured"}))
    .textContent = JSON.stringify(result);
});
</script>
"""


def browse(profile: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the browser to its end, with a profile of its own."""
    argv = [str(BROWSER), *QUIET, f"--user-data-dir={profile}", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert said == []
    return done


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the page of a healthy cluster and that of a broken one."""
    broken = world()
    broken.stop("db-3", "patroni")
    broken.off("proxy-2")
    return {"healthy": html(document()), "broken": html(document(broken))}


def measure(directory: Path, page: str, width: int, *more: str, script: str = MEASURE) -> dict[str, Any]:
    """Lay the page out `width` pixels wide and return what the browser made of it."""
    # In a frame, because a window cannot be as narrow as a phone
    frame = (
        f'<iframe style="border:0;width:{width}px;height:900px" srcdoc="{escaping.escape(page)}"></iframe>'
    )
    file = directory / "frame.html"
    file.write_text(f"<!doctype html><meta charset=utf-8><body style='margin:0'>{frame}{script}")
    done = browse(directory / "profile", *more, "--virtual-time-budget=2000", "--dump-dom", file.as_uri())
    found = re.search(r'<pre id="measured">(.*?)</pre>', done.stdout, re.S)
    assert found, done.stdout[-500:]
    return dict(json.loads(escaping.unescape(found[1])))


def contrast(one: str, other: str) -> float:
    """Return the contrast of two opaque colours by WCAG 2.2's definition."""

    def luminance(colour: str) -> float:
        numbers = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in numbers]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("which", ["healthy", "broken"])
@pytest.mark.parametrize("width", [PHONE, SCREEN])
def test_nothing_sticks_out(pages: dict[str, str], tmp_path: Path, which: str, width: int) -> None:
    found = measure(tmp_path, pages[which], width)
    assert found["viewport"] == width
    assert found["width"] == width
    assert found["wide"] == []
    assert found["drawn"] == (["tall"] if width == PHONE else ["wide"])
    assert found["overflowing"] == []


def test_both_schemes_are_readable(pages: dict[str, str], tmp_path: Path) -> None:
    light, dark = (measure(tmp_path, pages["broken"], SCREEN, *more) for more in ((), DARK))
    assert light["background"] != dark["background"]
    for found in (light, dark):
        for colour in ("text", "quiet", "good", "verdict"):
            # WCAG 2.2, 1.4.3: 4.5 for text
            assert contrast(found[colour], found["card"]) >= 4.5, (colour, found)
        assert contrast(found["text"], found["background"]) >= 7


def pixels(path: Path) -> tuple[int, int, tuple[int, int, int], int]:
    """Return width, height, the first pixel and the number of different rows of a PNG.

    Rows are compared as they are stored: of a blank image nearly all are the same.
    """
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height, depth, kind = struct.unpack("!IIBB", data[16:26])
    assert depth == 8
    channels = {2: 3, 6: 4}[kind]
    packed, at = b"", 8
    while at < len(data):
        (length,) = struct.unpack("!I", data[at : at + 4])
        if data[at + 4 : at + 8] == b"IDAT":
            packed += data[at + 8 : at + 8 + length]
        at += 12 + length
    raw = zlib.decompress(packed)
    stride = 1 + width * channels
    rows = {raw[row * stride : (row + 1) * stride] for row in range(height)}
    # Of the very first pixel every filter's neighbours are zero
    return width, height, (raw[1], raw[2], raw[3]), len(rows)


def test_it_is_drawn(pages: dict[str, str], tmp_path: Path) -> None:
    corners = {}
    for name, more in (("light", ()), ("dark", DARK)):
        page, picture = tmp_path / "report.html", tmp_path / f"{name}.png"
        page.write_text(pages["healthy"])
        size = f"--window-size={SCREEN},1400"
        browse(tmp_path / "profile", *more, size, f"--screenshot={picture}", page.as_uri())
        width, height, corners[name], rows = pixels(picture)
        assert (width, height) == (SCREEN, 1400)
        assert rows > 300
    assert sum(corners["light"]) > 650  # of 765
    assert sum(corners["dark"]) < 120


def test_it_prints(pages: dict[str, str], tmp_path: Path) -> None:
    page, paper = tmp_path / "report.html", tmp_path / "report.pdf"
    page.write_text(pages["healthy"])
    browse(tmp_path / "profile", "--no-pdf-header-footer", f"--print-to-pdf={paper}", page.as_uri())
    data = paper.read_bytes()
    assert data.startswith(b"%PDF-")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", data)) <= 12
