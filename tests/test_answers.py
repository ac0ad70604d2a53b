"""Answers are read strictly: whole, or refused; never one for another."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linq_source.api.answers import BrokenAnswer, RawAnswer, TooLarge, read_answer, read_head

pytestmark = pytest.mark.quick

LIMIT_BYTES = 1000
BODY = b'{"data":[],"meta":{"page":1}}'


def arriving(data: bytes, *cuts: int) -> Callable[[], bytes]:
    """The data in pieces, cut at these places, then the end of the connection."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    pieces: Iterator[bytes] = iter([data[a:b] for a, b in pairwise(places) if a < b])
    return lambda: next(pieces, b"")


def answer(*headers: str, body: bytes = BODY, status: str = "HTTP/1.1 200 OK") -> bytes:
    return "".join(f"{line}\r\n" for line in (status, *headers, "")).encode("latin-1") + body


def read(data: bytes, *cuts: int) -> RawAnswer:
    return read_answer(arriving(data, *cuts), LIMIT_BYTES)


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    body = b"".join(b"%x;name=value\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return answer("Transfer-Encoding: chunked", body=body + end)


PACKED = gzip.compress(BODY[:9]) + gzip.compress(BODY[9:])
WHOLE = {
    "with a length": answer(f"Content-Length: {len(BODY)}"),
    "in chunks": chunked(BODY[:5], BODY[5:]),
    "with trailers": chunked(BODY, end=b"0\r\nX-Sum: 1\r\n\r\n"),
    "to the end": answer(),
    "compressed": answer("Content-Encoding: gzip", f"Content-Length: {len(PACKED)}", body=PACKED),
    "after an interim answer": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    + answer(f"content-LENGTH:{len(BODY)}"),
}


@pytest.mark.parametrize("name", list(WHOLE))
@given(cuts=st.lists(st.integers(0, 400), max_size=6))
def test_an_answer_is_read_however_it_arrives(name: str, cuts: list[int]) -> None:
    found = read(WHOLE[name], *cuts)
    assert (found.status, found.body) == (200, BODY)
    assert found.keeps_connection == (name != "to the end")


@pytest.mark.parametrize("name", list(WHOLE))
def test_an_answer_cut_short_is_never_whole(name: str) -> None:
    for length in range(len(WHOLE[name])):
        if name == "to the end" and length >= len(answer(body=b"")):
            continue
        with pytest.raises(BrokenAnswer):
            read(WHOLE[name][:length])


@pytest.mark.parametrize("name", [name for name in WHOLE if name != "to the end"])
def test_bytes_behind_the_end_are_not_the_next_answer(name: str) -> None:
    with pytest.raises(BrokenAnswer, match="behind"):
        read(WHOLE[name] + WHOLE["with a length"])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/2 200\r\n\r\n",
        b"<html>\r\n\r\n",
        answer(status="HTTP/1.1 2000 OK"),
        answer("no colon"),
        answer("Content-Length: 29", " folded: yes"),
        answer("Content-Length : 29"),
        answer("Content-Length: 29", "Content-Length: 28"),
        answer("Content-Length: 29, 29"),
        answer("Content-Length: +29"),
        answer("Content-Length: -1"),
        answer("Content-Length: \u00b2"),
        answer("Content-Length: 29", "Transfer-Encoding: chunked"),
        answer("Transfer-Encoding: gzip, chunked"),
        answer("Content-Encoding: br", "Content-Length: 29"),
        answer("Content-Encoding: gzip", "Content-Length: 29"),
        answer("Transfer-Encoding: chunked", body=b"x\r\nabc\r\n0\r\n\r\n"),
        answer("Transfer-Encoding: chunked", body=b"2\r\nabc\r\n0\r\n\r\n"),
        answer("Transfer-Encoding: chunked", body=b"-1\r\n\r\n"),
        chunked(end=b"0\r\n" + b"X: y\r\n" * 200),
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
        answer("X-Long: " + "x" * 100_000),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_odd_is_refused(data: bytes) -> None:
    with pytest.raises(BrokenAnswer) as caught:
        read(data)
    assert "29" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        answer("Content-Length: 1001"),
        answer(f"Content-Length: {10**40}"),
        answer(body=b"x" * 1001),
        chunked(b"x" * 600, b"x" * 600),
        answer("Transfer-Encoding: chunked", body=b"fffffffffffffff\r\n"),
        answer(
            "Content-Encoding: gzip",
            f"Content-Length: {len(gzip.compress(b' ' * 100_000))}",
            body=gzip.compress(b" " * 100_000),
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_too_large_is_not_read(data: bytes) -> None:
    with pytest.raises(TooLarge):
        read(data)


@pytest.mark.parametrize(
    ("data", "keeps"),
    [
        (answer("Content-Length: 29"), True),
        (answer("Content-Length: 29", "Connection: Close"), False),
        (answer("Content-Length: 29", "Connection: x, close"), False),
        (answer("Content-Length: 29", status="HTTP/1.0 200 OK"), False),
        (answer("Content-Length: 29", "Connection: keep-alive", status="HTTP/1.0 200 OK"), True),
        (answer(body=b"", status="HTTP/1.1 204 No Content"), True),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_connection_is_kept_only_where_both_agree(data: bytes, keeps: bool) -> None:
    assert read(data).keeps_connection is keeps


@given(data=st.binary(max_size=200), cut=st.integers(0, 200))
def test_any_bytes_end_in_an_answer_or_an_error(data: bytes, cut: int) -> None:
    for start in (b"", b"HTTP/1.1 200 OK\r\n"):
        try:
            read(start + data, cut)
        except (BrokenAnswer, TooLarge):
            continue


def test_a_head_alone_is_read_strictly() -> None:
    assert read_head(arriving(answer("Via: x", body=b""), 3)) == 200
    with pytest.raises(BrokenAnswer, match="behind"):
        read_head(arriving(answer(body=b"x")))


def test_headers_that_repeat_are_joined() -> None:
    found = read(answer("Content-Length: 29", "Vary: a", "vary: b"))
    assert found.headers == {"Content-Length": "29", "Vary": "a, b"}
