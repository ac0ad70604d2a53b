"""The report in a real browser: every chart drawn, in both themes, on a phone, in print."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from linq_source.reporting.making import report_page, write_page
from linq_source.reporting.words import isolated
from linq_source.sandbox import grow
from tests import chromium
from tests.conftest import HOUR_MS, NOW_MS, Loader
from tests.test_report_page import data_of

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(chromium.PROGRAM is None, reason=chromium.MISSING),
]
ALL_CHARTS = {
    "attachments", "busiest", "busy", "funnel", "reactions", "responses", "traffic", "unanswered",
    "waits",
}  # fmt: skip
# What is drawn of each chart: its size, how many marks it has, its text alternative, its colours.
DRAWN = """Object.fromEntries([...document.querySelectorAll(".plot")].map(plot => {
  const svg = plot.querySelector("svg"), box = svg.getBoundingClientRect();
  const marks = [...svg.querySelectorAll(
    ".mark-rect.role-mark path, .mark-line.role-mark path, .mark-group.role-scope path")];
  return [plot.id, {
    width: box.width, height: box.height, right: box.right, marks: marks.length,
    label: svg.getAttribute("aria-label") || plot.getAttribute("aria-label"),
    rows: plot.parentElement.querySelectorAll("details tbody tr").length,
    ink: getComputedStyle(svg.querySelector(".role-axis-label text")).fill,
  }];
}))"""


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[chromium.Tab]:
    """A browser's tab, which said nothing and asked for nothing but the file by the end."""
    with chromium.chromium(tmp_path) as tab:
        yield tab
        assert tab.said == []
        addresses = {address for address in tab.asked if not address.startswith("data:")}
        assert all(address.startswith(("file:", "about:")) for address in addresses)


def written(loader: Loader, **options: Any) -> Path:
    """The report of what was loaded, as of the world's clock."""
    now = datetime.fromtimestamp(loader.world.now_ms / 1000, UTC)
    path = loader.folder / "report.html"
    write_page(report_page(loader.pipeline, now=now, **options), path)
    return path


def test_every_chart_is_drawn_for_every_reader(seeded: Loader, tab: chromium.Tab) -> None:
    seeded.sync()
    grow(seeded.world)
    seeded.sync()
    page = written(seeded)
    inks = set()
    for dark in (False, True):
        for width in (1200, 390):
            tab.show(page, dark=dark, width=width)
            drawn = tab.evaluate(DRAWN)
            assert drawn.keys() == ALL_CHARTS
            for name, chart in drawn.items():
                assert chart["width"] > width / 4, name
                assert chart["height"] > 50, name
                assert chart["right"] <= width, name
                assert chart["marks"] > 0, name
                assert chart["rows"] > 0, name
                assert len(chart["label"]) > 20, name
            assert tab.evaluate("document.documentElement.scrollWidth") == width
            assert tab.picture().startswith(b"\x89PNG")
            inks |= {(dark, chart["ink"]) for chart in drawn.values()}
    # Read out is a sentence for each chart, and none of its marks.
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    read_out = [
        (node["role"]["value"], node["name"]["value"]) for node in nodes if not node["ignored"]
    ]
    labels = {chart["label"] for chart in drawn.values()}
    assert {name for role, name in read_out if role == "image"} == labels
    assert [role for role, _ in read_out if "graphics" in role] == []
    # One ink in each theme.
    assert sorted(inks) == [(False, "rgb(91, 100, 112)"), (True, "rgb(162, 171, 181)")]
    # On paper it is dark on white, whatever the screen's theme is.
    tab.call("Emulation.setEmulatedMedia", media="print")
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(255, 255, 255)"
    assert {chart["ink"] for chart in tab.evaluate(DRAWN).values()} == {"rgb(68, 76, 85)"}


def test_the_hours_are_those_of_the_reader(small: Loader, tab: chromium.Tab) -> None:
    """Midday of a Saturday in UTC is the evening in Tokyo, and the morning in New York."""
    small.world.add_message(1, "x", sent_at_ms=NOW_MS - HOUR_MS)
    small.sync()
    page = written(small)
    cells = """[...document.querySelectorAll("#busy-table tbody tr")].flatMap((row, day) =>
      [...row.cells].slice(1).flatMap((cell, hour) => cell.textContent > 0 ? [[day, hour]] : []))"""
    sent = datetime.fromtimestamp(NOW_MS / 1000 - 3600, UTC)
    for zone, hours in (("UTC", 0), ("Asia/Tokyo", 9), ("America/New_York", -5)):
        tab.show(page, zone=zone)
        assert tab.evaluate(cells) == [[sent.weekday(), sent.hour + hours]]
        assert zone in tab.evaluate("document.getElementById('busy-words').textContent")


@pytest.mark.parametrize("messages", [0, 1])
def test_a_page_of_nothing_or_one_message_is_sensible(
    small: Loader, tab: chromium.Tab, messages: int
) -> None:
    for _ in range(messages):
        small.world.add_message(1, "x", sent_at_ms=NOW_MS - HOUR_MS)
    small.sync()
    page = written(small)
    tab.show(page)
    drawn = tab.evaluate(DRAWN)
    assert drawn.keys() == data_of(page.read_text())["charts"].keys()
    assert len(drawn) == 4 * messages
    assert all(chart["marks"] > 0 for chart in drawn.values())
    assert tab.evaluate("document.querySelectorAll('main section.chart').length") == 11
    assert "NaN" not in tab.evaluate("document.body.innerText")


def test_a_hostile_name_is_text(small: Loader, tab: chromium.Tab) -> None:
    name = "</script><img src=x onerror=document.title='gone'><b>"
    small.world.chats[1].display_name = name
    small.world.add_message(1, "x", sent_at_ms=NOW_MS - HOUR_MS)
    small.sync()
    tab.show(written(small))
    assert tab.evaluate("document.title") == "Chat messages: linq"
    assert tab.evaluate("document.querySelector('#busiest-words').textContent").startswith(
        isolated(name)
    )
    assert tab.evaluate("document.querySelectorAll('main img, main b').length") == 0
