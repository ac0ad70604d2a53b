"""The numbers around a page are read or refused, and never taken from a message's text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linq_source.decoding.envelope import Envelope, check_list, read_envelope
from linq_source.decoding.pages import decode_pages
from linq_source.decoding.records import MESSAGE
from linq_source.planning.contracts import V2
from linq_source.planning.requests_v2 import ChatRequest

pytestmark = pytest.mark.quick

META = {"page": 2, "total_pages": 5, "total_count": 123, "per_page": 25}
EXPECTED = Envelope(page=2, total_pages=5, total_count=123, per_page=25)
COUNTS = st.integers(0, 2**53 - 1)


def body(answer: Any, **layout: Any) -> bytes:
    return json.dumps(answer, **layout).encode()


def with_meta(**changed: Any) -> bytes:
    return body({"data": [], "meta": META | changed})


@pytest.mark.parametrize(
    "layout",
    [{}, {"indent": 2}, {"indent": "\t"}, {"separators": (",", ":")}],
    ids=["spaced", "indented", "tabs", "compact"],
)
@pytest.mark.parametrize("end", ["", "\n", " \r\n\t"])
def test_layout_does_not_change_the_envelope(layout: dict[str, Any], end: str) -> None:
    answer = {"data": [{"id": 1, "text": "x"}], "meta": META}
    assert read_envelope(body(answer, **layout) + end.encode()) == EXPECTED


@given(COUNTS, COUNTS, COUNTS, st.integers(1, 2**53 - 1))
def test_every_count_arrives_as_sent(page: int, pages: int, count: int, size: int) -> None:
    meta = {"total_count": count, "per_page": size, "page": page, "total_pages": pages}
    assert read_envelope(body({"data": [], "meta": meta})) == Envelope(page, pages, count, size)


def test_meta_may_stand_before_data() -> None:
    assert read_envelope(body({"meta": META, "data": [{"id": 1}]})) == EXPECTED


@pytest.mark.parametrize(
    "extra",
    [1, None, "a } brace", '"meta":{"page":9}}', {"nested": {"deep": 1}}, [{}], "long" * 200],
)
def test_members_that_meta_has_in_addition_change_nothing(extra: Any) -> None:
    assert read_envelope(with_meta(extra=extra)) == EXPECTED


@given(st.text())
def test_no_text_of_a_message_is_taken_for_meta(text: str) -> None:
    fake = json.dumps({"page": 9, "total_pages": 9, "total_count": 9, "per_page": 9})
    imitations = [text, f'"meta":{fake}}}', f'{text}","meta":{fake}}}', f'\\","meta":{fake}}}']
    for imitation in imitations:
        for answer in (
            {"data": [{"text": imitation}], "meta": META},
            {"meta": META, "data": [{"text": imitation}]},
            {"meta": META, "data": [], "text": imitation},
        ):
            assert read_envelope(body(answer)) == EXPECTED
            assert read_envelope(body(answer, ensure_ascii=False)) == EXPECTED


def test_meta_of_a_record_is_not_the_answers() -> None:
    fake = {"page": 9, "total_pages": 9, "total_count": 9, "per_page": 9}
    assert read_envelope(body({"meta": META, "data": [{"meta": fake}]})) == EXPECTED
    assert read_envelope(body({"meta": META, "data": [], "more": {"meta": fake}})) == EXPECTED


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the answer is not JSON"),
        (b"<html><body>502</body></html>", "the answer is an HTML page"),
        (b"\n <!DOCTYPE html>", "the answer is an HTML page"),
        (b"{}", "no list 'data' in the answer"),
        (b"[]", "the answer is not a JSON object"),
        (b"null", "the answer is not a JSON object"),
        (b'{"data": [], "meta": null}', "no object 'meta' in the answer"),
        (b'{"data": [], "meta": []}', "no object 'meta' in the answer"),
        (b'{"data": []}', "no object 'meta' in the answer"),
        (body({"meta": META, "data": {}}), "no list 'data' in the answer"),
        (body({"meta": META, "data": None}), "no list 'data' in the answer"),
        (body({"meta": META, "data": "list"}), "no list 'data' in the answer"),
        (b'{"data": [' + b"[" * 100_000, "the answer is not JSON"),
    ],
)
def test_what_is_no_page_is_refused_with_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=r".+") as caught:
        read_envelope(content)
    assert str(caught.value) == reason


@pytest.mark.parametrize("cut", [1, 2, 20, 60, 100])
@pytest.mark.parametrize("first", ["data", "meta"])
def test_a_truncated_page_is_refused(cut: int, first: str) -> None:
    parts: dict[str, Any] = {"data": [{"id": 1, "text": "x" * 80}], "meta": META}
    answer = {first: parts[first]} | parts
    with pytest.raises(ValueError, match="not JSON"):
        read_envelope(body(answer)[:-cut])


@pytest.mark.parametrize("name", ["page", "total_pages", "total_count", "per_page"])
@pytest.mark.parametrize("value", [None, True, -1, 2**53, 1.0, "1", [1], {"n": 1}, float("nan")])
def test_a_count_that_is_no_count_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^meta\.{name} is not a count$"):
        read_envelope(with_meta(**{name: value}))


@pytest.mark.parametrize("name", ["page", "total_pages", "total_count", "per_page"])
def test_a_missing_count_is_refused_by_name(name: str) -> None:
    meta = {key: value for key, value in META.items() if key != name}
    with pytest.raises(ValueError, match=rf"^meta\.{name} is not a count$"):
        read_envelope(body({"data": [], "meta": meta}))


def test_pages_of_no_size_are_refused_only_when_something_is_counted() -> None:
    with pytest.raises(ValueError, match=r"^meta\.per_page is 0$"):
        read_envelope(with_meta(per_page=0))
    assert read_envelope(with_meta(per_page=0, total_count=0)).total_count == 0


def test_a_refusal_quotes_nothing_of_the_answer() -> None:
    secret = "private words"
    for content in (body({"data": secret}), body({"meta": META, "data": secret}), secret.encode()):
        with pytest.raises(ValueError, match=r".+") as caught:
            read_envelope(content)
        assert secret not in str(caught.value)


@pytest.mark.parametrize("data", [None, {}, "list", 1])
def test_data_that_is_no_list_is_refused_where_meta_ends_the_page(data: Any) -> None:
    with pytest.raises(ValueError, match="no list 'data'"):
        read_envelope(body({"data": data, "meta": META}))


def test_a_page_without_data_is_refused_where_meta_ends_the_page() -> None:
    with pytest.raises(ValueError, match="no list 'data'"):
        read_envelope(body({"meta": META}))


@pytest.mark.parametrize("first", ["data", "meta"])
@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b"\xef\xbb\xbf \n", b" \r\n\t"])
def test_a_byte_order_mark_and_blanks_before_the_answer_change_nothing(
    first: str, start: bytes
) -> None:
    parts: dict[str, Any] = {"data": [{"id": 1}], "meta": META}
    assert read_envelope(start + body({first: parts[first]} | parts)) == EXPECTED
    numbers = start + b'{"phone_numbers": [{"id": 1, "phone_number": "+1"}]}'
    assert V2.decode_phone_numbers(numbers).root["id"].to_pylist() == [1]
    assert ChatRequest.decode(start + b'{"data": {"id": 5}}').root["id"].to_pylist() == [5]


@pytest.mark.parametrize("charset", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_an_answer_in_another_encoding_is_refused(charset: str) -> None:
    content = json.dumps({"data": [], "meta": META | {"total_count": 0}}).encode(charset)
    for read in (read_envelope, V2.decode_phone_numbers, ChatRequest.decode):
        with pytest.raises(ValueError, match=r"^the answer is not in UTF-8$"):
            read(content)


@pytest.mark.parametrize(
    ("meta", "is_empty"),
    [
        ({"page": 1, "total_pages": 0, "total_count": 0, "per_page": 100}, True),
        ({"page": 1, "total_pages": 0, "total_count": 0, "per_page": 0}, True),
        ({"page": 3, "total_pages": 2, "total_count": 200, "per_page": 100}, True),
        ({"page": 2, "total_pages": 2, "total_count": 101, "per_page": 100}, False),
        ({"page": 1, "total_pages": 1, "total_count": 1, "per_page": 100}, False),
    ],
)
def test_a_list_that_is_null_is_empty_where_the_counts_say_so(
    meta: dict[str, int], is_empty: bool
) -> None:
    content = body({"data": None, "meta": meta})
    if is_empty:
        assert read_envelope(content) == Envelope(**meta)
        decoded = decode_pages([content, content], MESSAGE)
        assert decoded.received == 0
    else:
        with pytest.raises(ValueError, match=r"^no list 'data' in the answer$"):
            read_envelope(content)


def test_what_is_nested_deeply_hides_no_counts() -> None:
    deep = b'{"meta": %s, "data": [{"more": %s}]}' % (
        json.dumps(META).encode(),
        b"[" * 100_000 + b"]" * 100_000,
    )
    assert read_envelope(deep) == EXPECTED
    assert read_envelope(deep.replace(b"[{", b"[" + b"1" * 5_000 + b",{")) == EXPECTED


def test_a_list_is_believed_under_its_key_only() -> None:
    check_list(b'{"phone_numbers": []}', "phone_numbers")
    for content in (b'{"phone_numbers": {}}', b"{}", b'{"data": []}'):
        with pytest.raises(ValueError, match="no list 'phone_numbers' in the answer"):
            check_list(content, "phone_numbers")


@pytest.mark.parametrize(
    "content",
    [b"", b"<html></html>", b"{}", b'{"error": "x"}', b'{"phone_numbers": null}', b"[]"],
)
def test_an_answer_without_a_list_of_numbers_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        V2.decode_phone_numbers(content)


def test_an_organisation_may_have_no_numbers() -> None:
    assert len(V2.decode_phone_numbers(b'{"phone_numbers": []}')) == 0
