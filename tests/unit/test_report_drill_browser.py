"""The drills' page in a real browser: light, dark, on a phone and on paper; no text lies on another."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from kbpg.report.drill_pages import html

from .drill_document import document, idle, nothing, sequence, several
from .test_report_browser import BROWSER, DARK, PHONE, SCREEN, browse, contrast, measure, pixels

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: apt-get install chromium"),
]
PAPER = 680
"""Pixels between the margins of an A4 page."""
MEASURE = """
<script>
addEventListener("load", () => {
  const view = document.querySelector("iframe").contentWindow, page = view.document, root = page.documentElement;
  const all = (selector, within = page) => [...within.querySelectorAll(selector)];
  const style = (selector, name) => all(selector).map(e => view.getComputedStyle(e)[name])[0];
  const shown = all("svg.chart").filter(svg => view.getComputedStyle(svg).display !== "none");
  const over = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3;
  const boxes = svg => all("text", svg).filter(text => text.textContent.trim())
    .map(text => ({kind: text.getAttribute("class"), words: text.textContent, box: text.getBoundingClientRect()}));
  const result = {
    viewport: view.innerWidth, width: root.scrollWidth,
    wide: all("body *").filter(e => !e.closest("svg") && e.getBoundingClientRect().right > view.innerWidth + 0.5)
      .map(e => e.outerHTML.slice(0, 80)),
    clipped: all(".table").filter(e => e.scrollWidth > e.clientWidth).length,
    drawn: [...new Set(shown.map(svg => svg.classList[1]))],
    overlapping: shown.flatMap(svg => boxes(svg).flatMap((one, at, texts) => texts.slice(at + 1)
      .filter(other => over(one.box, other.box)).map(other => [one.words, other.words]))),
    outside: shown.flatMap(svg => boxes(svg).filter(text => text.box.left < svg.getBoundingClientRect().left - 1
      || text.box.right > svg.getBoundingClientRect().right + 1).map(text => text.words)),
    background: style("body", "backgroundColor"), card: style(".panel", "backgroundColor"),
    shade: style("svg .away", "fill"),
    colours: Object.fromEntries(["name", "small", "tick", "outage", "label.promoted", "label.recovered"]
      .map(kind => [kind, style("svg.chart ." + kind, "fill")])),
  };
  document.body.innerHTML = "";
  document.body.appendChild(Object.assign(document.createElement("pre"), {id: "measured"}))
    .textContent = JSON.stringify(result);
});
</script>
"""


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """Return the page of several drills, and that of unusual ones."""
    return {"several": html(several()), "unusual": html(document(sequence(), idle(), nothing()))}


@pytest.mark.parametrize("which", ["several", "unusual"])
@pytest.mark.parametrize("width", [PHONE, SCREEN])
def test_nothing_sticks_out_or_overlaps(
    pages: dict[str, str], tmp_path: Path, which: str, width: int
) -> None:
    found = measure(tmp_path, pages[which], width, script=MEASURE)
    assert (found["viewport"], found["width"], found["wide"]) == (width, width, [])
    assert found["clipped"] == 0
    assert found["drawn"] == (["tall"] if width == PHONE else ["wide"])
    assert found["outside"] == []
    assert found["overlapping"] == []


def test_the_table_is_whole_on_paper(pages: dict[str, str], tmp_path: Path) -> None:
    paper = pages["several"].replace("@media print", "@media all")
    found = measure(tmp_path, paper, PAPER, script=MEASURE)
    assert (found["wide"], found["clipped"], found["drawn"]) == ([], 0, ["wide"])


def test_both_schemes_are_readable(pages: dict[str, str], tmp_path: Path) -> None:
    measured: list[dict[str, Any]] = [
        measure(tmp_path, pages["several"], SCREEN, *more, script=MEASURE) for more in ((), DARK)
    ]
    assert measured[0]["background"] != measured[1]["background"]
    for found in measured:
        for kind, colour in found["colours"].items():
            # WCAG 2.2, 1.4.3: 4.5 for text
            assert contrast(colour, found["card"]) >= 4.5, (kind, found)
        assert contrast(found["colours"]["outage"], found["shade"]) >= 4.5


def test_it_is_drawn(pages: dict[str, str], tmp_path: Path) -> None:
    corners = {}
    for name, more in (("light", ()), ("dark", DARK)):
        page, picture = tmp_path / "drill.html", tmp_path / f"{name}.png"
        page.write_text(pages["several"])
        browse(
            tmp_path / "profile",
            *more,
            f"--window-size={SCREEN},1400",
            f"--screenshot={picture}",
            page.as_uri(),
        )
        width, height, corners[name], rows = pixels(picture)
        assert (width, height) == (SCREEN, 1400)
        assert rows > 300
    assert sum(corners["light"]) > 650  # of 765
    assert sum(corners["dark"]) < 120


def test_it_prints(pages: dict[str, str], tmp_path: Path) -> None:
    page, paper = tmp_path / "drill.html", tmp_path / "drill.pdf"
    page.write_text(pages["several"])
    browse(tmp_path / "profile", "--no-pdf-header-footer", f"--print-to-pdf={paper}", page.as_uri())
    data = paper.read_bytes()
    assert data.startswith(b"%PDF-")
    assert 4 <= len(re.findall(rb"/Type\s*/Page\b", data)) <= 12
