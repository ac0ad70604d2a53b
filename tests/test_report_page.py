"""The report as a page: words, charts, colours, what is not in it, and the command."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from linq_source import reporting
from linq_source.errors import ConfigurationError
from linq_source.reporting.figures import (
    Figures,
)
from linq_source.reporting.making import report_page, write_page
from linq_source.reporting.page import page_of
from linq_source.reporting.words import in_short, isolated
from tests.conftest import Loader
from tests.test_cli import assert_one_line, run_cli
from tests.test_reporting import ANN, NOW, OURS, Written


@pytest.mark.quick
@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (45, "45 s"), (150, "2.5 min"), (3_599, "60 min"), (12_240, "3.4 h"),
     (12 * 86_400, "12 days")],
)  # fmt: skip
def test_a_time_has_two_digits_or_three(seconds: float, text: str) -> None:
    assert in_short(seconds) == text


# The page.


def page(figures: Figures) -> str:
    return page_of(figures, script="", style="", library="")


def data_of(html: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html)
    assert found is not None
    return json.loads(found[1])


@pytest.mark.quick
def test_without_messages_there_are_words_and_no_charts() -> None:
    html = page(Written().figures())
    assert data_of(html) == {"charts": {}, "busyHours": []}
    for words in ("No messages yet.", "Nothing was answered yet.", "No chat waits", "No reactions"):
        assert words in html


@pytest.mark.quick
def test_one_message_gives_what_it_can() -> None:
    written = Written()
    written.message(1, ANN, 5)
    found = data_of(page(written.figures()))
    assert sorted(found["charts"]) == ["busiest", "busy", "traffic", "unanswered"]
    assert sum(row["messages"] for row in found["charts"]["traffic"]["data"]["values"]) == 1


@pytest.mark.quick
def test_names_are_text_in_the_page_whatever_they_are() -> None:
    written = Written()
    hostile = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    written.connection.execute("INSERT INTO chats (id, display_name) VALUES (1, ?)", [hostile])
    written.message(1, ANN, 5)
    html = page(written.figures())
    assert "<script>alert" not in html
    assert "<img" not in html
    values = data_of(html)["charts"]["busiest"]["data"]["values"]
    assert {value["name"] for value in values} == {isolated(hostile)}


@pytest.mark.quick
def test_two_chats_of_one_name_are_two_bars() -> None:
    import vl_convert

    written = Written()
    written.connection.execute("INSERT INTO chats (id, display_name) VALUES (1, 'A'), (2, 'A')")
    for chat_id, who in ((1, ANN), (1, OURS), (2, ANN)):
        written.message(chat_id, who, 5)
    spec = data_of(page(written.figures()))["charts"]["busiest"]
    found = [(v["row"], v["name"], v["count"]) for v in spec["data"]["values"]]
    name = isolated("A")
    assert found == [
        (f"0000 {name}", name, 1), (f"0000 {name}", name, 1),
        (f"0001 {name}", name, 1), (f"0001 {name}", name, 0),
    ]  # fmt: skip
    assert spec["encoding"]["y"]["field"] == "row"
    drawn = vl_convert.vegalite_to_svg(spec | {"width": 300})
    assert drawn.count(f">{name}</text>") == 2


@pytest.mark.quick
def test_a_name_turns_nothing_around_it() -> None:
    assert isolated("a\u2069\u202eb") == "\u2068ab\u2069"


@pytest.mark.quick
def test_troubles_of_the_data_stand_at_the_top() -> None:
    figures = Written().figures()
    assert "Complete up to a moment ago." in page(figures)
    assert 'class="health well"' in page(figures)
    for doubt in (
        {"read_until": None},
        {"unlisted": 1},
        {"max_age_hours": 1.0, "now": NOW + timedelta(hours=2)},
    ):
        html = page(replace(figures, status=replace(figures.status, **doubt)))
        assert 'class="health unwell"' in html
        assert "In doubt: " in html
    late = replace(figures.status, now=NOW + timedelta(days=3), max_age_hours=5.0)
    assert "In doubt: older than 5 hours." in page(replace(figures, status=late))


@pytest.mark.quick
def test_every_chart_is_one_that_vega_understands() -> None:
    import vl_convert

    written = Written()
    id_ = written.message(1, ANN, 90)
    written.message(1, OURS, 80)
    written.message(2, ANN, 5)
    written.connection.execute(
        "INSERT INTO chat_messages__reactions VALUES (?, 'love', false, ?)", [id_, NOW]
    )
    written.connection.execute(
        "INSERT INTO chat_messages__attachments VALUES (?, 'image/png', 10, ?)", [id_, NOW]
    )
    found = data_of(page(written.figures()))["charts"]
    assert sorted(found) == [
        "attachments", "busiest", "busy", "funnel", "reactions", "responses", "traffic",
        "unanswered", "waits",
    ]  # fmt: skip
    for spec in found.values():
        assert spec["description"]
        assert vl_convert.vegalite_to_vega(spec)["marks"]


def contrast(one: str, other: str) -> float:
    """As WCAG 2.2 defines it, of two colours such as #1f6fb5."""

    def luminance(color: str) -> float:
        parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(
            weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True)
        )

    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.quick
def test_colours_can_be_told_apart_on_screen_at_night_and_on_paper() -> None:
    style = (Path(reporting.__file__).parent / "page.css").read_text()
    themes = [
        dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", theme))
        for theme in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]
    assert len(themes) == 3
    for colors in themes:
        for ground in ("paper", "panel"):
            for text in ("ink", "muted", "good", "bad"):
                assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
            for bar in ("received", "sent"):
                assert contrast(colors[bar], colors[ground]) >= 3, (bar, ground)
        heat = [contrast(colors[f"heat-{step}"], colors["panel"]) for step in range(6)]
        assert heat == sorted(heat)


# The command.


def test_the_command_writes_one_file(small: Loader, tmp_path: Path) -> None:
    run_cli(tmp_path, "run", "--base-url", small.sandbox.url)
    result = run_cli(tmp_path, "report", "-o", "chats.html", token=None)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "wrote chats.html\n"
    assert (tmp_path / "chats.html").read_text().startswith("<!doctype html>")


@pytest.mark.quick
def test_a_page_takes_the_place_of_the_last_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("the last one")
    path.chmod(0o640)
    assert write_page("new", path) == 3
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o640)
    with pytest.raises(ConfigurationError, match=r"--output .*cannot be written \(.*\); name"):
        write_page("new", Path("/proc/report.html"))
    assert [found.name for found in tmp_path.iterdir()] == ["report.html"]


def test_no_text_and_no_number_is_in_the_page(seeded: Loader) -> None:
    seeded.sync()
    html = report_page(seeded.pipeline)
    texts = {m.text for m in seeded.world.messages.values() if m.text and len(m.text) > 15}
    handles = {h.phone_number for chat in seeded.world.chats.values() for h in chat.handles}
    assert len(texts) > 100
    assert [text for text in (*texts, *handles) if text in html] == []
    assert "src=" not in html.partition("<script")[0]


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "no/such/folder/report.html"], ["no/such/folder", "does not exist"]),
        (["-o", "."], ["it is not a file"]),
        ([], ["linq_messages.duckdb", "no such file"]),
    ],
)
def test_a_report_that_cannot_be_is_one_line(
    tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    result = run_cli(tmp_path, "report", *arguments, token=None)
    assert result.returncode == 2
    assert_one_line(result, *words)


def test_without_its_extra_the_report_says_so(
    small: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'linq-source\[report\]'"):
        report_page(small.pipeline)
