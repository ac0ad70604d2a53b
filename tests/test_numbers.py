"""One form for a number or an address, however it is written; and no more than that is the same."""

from __future__ import annotations

import re
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linq_source.privacy.forgotten import Forgotten, forgotten_from
from linq_source.privacy.hashing import Privacy
from linq_source.privacy.numbers import NUMBER_OR_ADDRESS, normalize_phone

NUMBER = "+15551234567"
PRIVACY = Privacy("hash", "hash", b"0123456789abcdef")
SPELLINGS = [
    NUMBER, " +1 (555) 123-4567\n", "+1.555.123.4567", "+1/555/1234567", "+1 [555] 1234567",
    "\u202a+15551234567\u202c", "\u200e+15551234567\u200f", "\u2066+1 555\u2069 1234567",
    "\ufeff+1555\u200b123\u200d4567", "+1\u00ad5551234567", "\u2060+15551234567\ufe0f",
    "+1\u00a0555\u202f123\u20094567", "+1\u2010555\u2011123\u20124567",
    "+1\u2013555\u2014123\u22124567",
    "＋１５５５１２３４５６７", "＋1（555）123－4567", "﹢15551234567", "⁺15551234567",
    "+１ ５５５ １２３ ４５６７",
    "+١٥٥٥١٢٣٤٥٦٧", "+१५५५१२३४५६७", "+1·555·123·4567",
    "tel:+15551234567", "TEL:+1-555-123-4567", "tel://+15551234567", "tel:%2B15551234567",
    "tel:+15551234567;phone-context=example.com", "sms:+15551234567?body=hi",
    "smsto:+15551234567", "\u200etel:\u202a+15551234567\u202c", "whatsapp:+15551234567",
]  # fmt: skip


@pytest.mark.parametrize("written", SPELLINGS, ids=ascii)
def test_a_number_is_one_however_it_is_written(written: str) -> None:
    assert normalize_phone(written) == NUMBER
    assert PRIVACY.hash_phone(written) == PRIVACY.hash_phone(NUMBER)
    assert Forgotten(salt=b"s").with_people([NUMBER]).is_of(written)
    assert Forgotten(salt=b"s").with_people([written]).is_of(NUMBER)


@pytest.mark.parametrize("written", [w for w in SPELLINGS if "%" not in w], ids=ascii)
def test_a_number_in_a_name_or_payload_is_found_however_it_is_written(written: str) -> None:
    forgotten = Forgotten(salt=b"s").with_people([NUMBER])
    assert NUMBER_OR_ADDRESS.search(f"Ann {written}!") is not None
    assert forgotten.is_named_in(f"Ann {written}!")
    assert not any(c.isdecimal() for c in forgotten.mask(f"Ann {written}!"))
    escaped = "".join(c if c.isascii() else f"\\u{ord(c):04x}" for c in written.strip())
    assert forgotten.is_named_in(f'{{"from": "{escaped}"}}')


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("Ann@Example.COM", "ann@example.com"),
        ("mailto:ann@example.com", "ann@example.com"),
        ("MAILTO:Ann@example.com?subject=hi", "ann@example.com"),
        ("\u200eann@example.com\u200b", "ann@example.com"),
        ("ａｎｎ＠example.com", "ann@example.com"),
        ("ANN+x@example.com", "ann+x@example.com"),
        ("mailto:ann%2Bx@example.com", "ann+x@example.com"),
        ("LINQ", "linq"),
        ("22395", "22395"),
        ("+44 (0)20 7946 0000", "+442079460000"),
        ("tel:5551234567", "5551234567"),
    ],
    ids=ascii,
)
def test_addresses_and_short_names(written: str, normal: str) -> None:
    assert normalize_phone(written) == normal


@pytest.mark.parametrize(
    "other",
    [
        "15551234567", "0015551234567", "+15551234568", "+155512345670", "+5551234567",
        "tel:+15551234567;ext=12", "+1555123456", "++15551234567", "+15551234567x2",
    ],
)  # fmt: skip
def test_what_may_be_another_number_stays_another(other: str) -> None:
    assert normalize_phone(other) != NUMBER
    assert not Forgotten(salt=b"s").with_people([NUMBER]).is_of(other)


def form_of_0_1(number: str) -> str:
    bare = number.strip().translate(str.maketrans("", "", " \t-.()/\u00a0\u2011\u2013"))
    return bare if re.fullmatch(r"\+?[0-9]+", bare) else number.strip().casefold()


@given(
    st.from_regex(r"\A\+?[0-9][0-9 .\-/]{5,16}\Z") | st.from_regex(r"\A[A-Za-z0-9.+]+@[a-z.]+\Z")
)
def test_what_is_written_as_usual_keeps_its_hash_of_version_0_1(written: str) -> None:
    """Datasets that were hashed before stay joined."""
    assert normalize_phone(written) == form_of_0_1(written)


@given(st.text(st.sampled_from("+0123456789（）－ \u202aABßſﬁ@.x＠٣"), max_size=20))
def test_the_form_of_a_form_is_itself(written: str) -> None:
    assert normalize_phone(normalize_phone(written)) == normalize_phone(written)


@pytest.mark.parametrize(
    "written", ["＋１５５５１２３４５６７", "\u202a+15551234567\u202c", "+15551234567"]
)
def test_who_was_forgotten_by_version_0_1_stays_forgotten(written: str) -> None:
    before = Forgotten(salt=b"s")
    state = before.to_state() | {"people": [before._hash(form_of_0_1(written))]}
    assert forgotten_from(state).is_of(written)


def test_every_space_dash_and_invisible_mark_is_nothing_in_a_number() -> None:
    kept = []
    for code in range(sys.maxunicode + 1):
        mark = chr(code)
        category = unicodedata.category(mark)
        # Arabic and other signs of the category Cf are visible, those beyond it are no text's.
        hidden = category == "Cf" and not unicodedata.name(mark, "").startswith(
            ("ARABIC ", "SYRIAC", "KAITHI", "EGYPTIAN", "SHORTHAND", "MUSICAL")
        )
        is_a_mark = mark == "\u061c" or hidden or category in ("Pd", "Zs")
        if is_a_mark and normalize_phone(f"+1555{mark}1234567") != NUMBER:
            kept.append(mark)
    assert kept == []
