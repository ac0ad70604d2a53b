"""docs/walkthrough.md: the code gives the values that the page shows."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "walkthrough.md"

pytestmark = pytest.mark.quick


def test_the_code_gives_the_values_of_the_page() -> None:
    # The fences would count as what an example prints.
    text = re.sub(r"^```.*$", "", PAGE.read_text(), flags=re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) > 20
    printed: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=printed.append)
    assert result.failed == 0, "".join(printed)


def test_every_function_stands_where_the_page_says() -> None:
    text = PAGE.read_text()
    pairs = re.findall(r"`(\w+)`\s(?:in\s|\()`([\w/]+\.py)`\)?", text)
    pairs += [(name, path) for path, name in re.findall(r"`([\w/]+\.py)`,\s`([\w.]+)`", text)]
    assert len(pairs) >= 7
    for path in re.findall(r"`([\w/]+\.py)`", text):
        assert (ROOT / "linq_source" / path).exists() or (ROOT / path).exists(), path
    for name, path in pairs:
        code = (ROOT / "linq_source" / path).read_text()
        for part in name.split("."):
            assert re.search(rf"^ *(def|class) {part}\b", code, re.MULTILINE), f"{path}: {name}"
