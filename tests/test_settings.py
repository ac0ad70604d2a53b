"""Settings are checked once, and a refusal is one line that names the value."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, date, datetime
from inspect import signature
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linq_source import linq_source
from linq_source.cli.main import audit, run
from linq_source.errors import ConfigurationError
from linq_source.instants import DAY_US, parse_iso
from linq_source.settings import Secret, Settings, Shard, SourceOptions, check_settings, parse_shard

pytestmark = pytest.mark.quick

TOKEN = "sesame-4711"
GOOD: dict[str, Any] = {
    "api_token": TOKEN,
    "base_url": "https://api.example.com",
    "chat_ids": None,
    "phone_numbers": None,
    "start": None,
    "end": None,
    "lookback_days": 7.0,
    "page_size": 100,
    "workers": 8,
    "max_messages": None,
    "shard": None,
    "timeout_s": 30.0,
    "request_deadline_s": 120.0,
}


def check(**changed: Any) -> Settings:
    return check_settings(**(GOOD | changed))


def test_options_are_the_same_everywhere() -> None:
    """`sync` and `audit` take `SourceOptions`; secrets and rare ones have no option to type."""
    options = {name: of.__forward_arg__ for name, of in SourceOptions.__annotations__.items()}
    source = {name: p.annotation for name, p in signature(linq_source).parameters.items()}
    assert source.pop("privacy_key") == "TSecretStrValue | None"
    assert options.pop("privacy_key") == "str | None"
    assert source == options
    assert signature(check_settings).parameters.keys() == {*options, "privacy_key"}
    assert options.keys() - signature(run).parameters.keys() == {
        "api_token", "timeout_s", "request_deadline_s",
    }  # fmt: skip
    assert signature(audit).parameters.keys() & options.keys() == {
        "base_url", "api", "chat_ids", "phone_numbers", "workers", "shard",
        "max_requests_per_second", "allow_plain_http",
    }  # fmt: skip


def test_good_settings_are_taken_as_they_are() -> None:
    settings = check()
    assert settings.api_token.reveal() == TOKEN
    assert settings.base_url == "https://api.example.com"
    assert settings.lookback_us == 7 * DAY_US
    assert (settings.page_size, settings.workers) == (100, 8)
    assert (settings.timeout_s, settings.request_deadline_s) == (30.0, 120.0)
    nothing = (
        settings.chat_ids,
        settings.phone_numbers,
        settings.start_us,
        settings.end_us,
        settings.max_messages,
        settings.shard,
    )
    assert nothing == (None,) * 6


@pytest.mark.parametrize(
    "changed",
    [
        {"api_token": "  "},
        {"retention": "24h"},
        {"recheck_days": 0},
        {"recheck_days": float("nan")},
        {"recheck_share": 1.5},
        {"recheck_share": -0.1},
        {"api_token": "a\nb"},
        {"api_token": "schlüssel"},
        {"base_url": "api.example.com"},
        {"base_url": "ftp://api.example.com"},
        {"base_url": "https://"},
        {"base_url": "https://user:word@api.example.com"},
        {"base_url": "https://api.example.com/?a=1"},
        {"base_url": "https://api.example.com/#a"},
        {"base_url": "http://api.example.com"},
        {"base_url": "http://10.0.0.1"},
        {"base_url": "http://localhost.example.com"},
        {"start": "yesterday"},
        {"start": ""},
        {"end": "2025-02-30"},
        {"start": "2025-05-21", "end": "2025-05-21"},
        {"start": "2025-05-22", "end": date(2025, 5, 21)},
        {"lookback_days": -0.1},
        {"lookback_days": 36_501},
        {"lookback_days": float("nan")},
        {"page_size": 0},
        {"page_size": 101},
        {"workers": 0},
        {"workers": 65},
        {"max_messages": 0},
        {"timeout_s": 0},
        {"request_deadline_s": -1},
        {"shard": ""},
        {"shard": "4/4"},
        {"shard": "0/0"},
        {"shard": "-1/4"},
        {"shard": "1"},
        {"shard": "1/2/3"},
        {"chat_ids": [True]},
        {"chat_ids": ["1"]},
        {"chat_ids": "12"},
        {"chat_ids": [-1]},
        {"chat_ids": [2**63]},
        {"chat_ids": [1.0]},
        {"phone_numbers": "+15551234567"},
        {"phone_numbers": [""]},
        {"phone_numbers": [15551234567]},
        {"max_requests_per_second": 0},
        {"max_requests_per_second": float("nan")},
        {"phones": "hashed"},
        {"text": ""},
        {"phones": "hash"},
        {"text": "hash", "privacy_key": "a word too short"[:15]},
    ],
    ids=str,
)
def test_a_value_that_cannot_be_used_is_refused_in_one_line(changed: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check(**changed)
    text = str(caught.value)
    assert "\n" not in text
    assert "word" not in text
    assert TOKEN not in text
    names = {"chat_ids": "chat id", "phones": "privacy_key" if "phones" not in text else "phones"}
    assert any(names.get(name, name) in text for name in changed)


@pytest.mark.parametrize("base_url", ["https://[::1", "https://[x]", "https://h:port"])
def test_an_address_that_cannot_be_parsed_is_refused_like_any_other(base_url: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        check(base_url=base_url)


@pytest.mark.parametrize("name", ["timeout_s", "request_deadline_s"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_time_limit_is_a_finite_number(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=name):
        check(**{name: value})


def test_plain_http_must_be_allowed_for_another_machine() -> None:
    with pytest.raises(ConfigurationError, match="allow_plain_http"):
        check(base_url="http://api.internal:8080")
    settings = check(base_url="http://api.internal:8080", allow_plain_http=True)
    assert settings.base_url == "http://api.internal:8080"


def test_numbers_and_keys_are_not_shown() -> None:
    settings = check(phones="hash", privacy_key="k" * 32, phone_numbers=["+15551234567"])
    assert settings.privacy_key is not None
    assert settings.privacy_key.reveal() == "k" * 32
    assert "kkk" not in repr(settings)
    assert "+1555" not in repr(settings)


def test_a_key_nobody_needs_is_not_kept() -> None:
    assert check(phones="drop", privacy_key="k" * 32).privacy_key is None


def test_a_missing_token_says_where_to_put_one() -> None:
    with pytest.raises(ConfigurationError, match="SOURCES__LINQ__API_TOKEN"):
        check(api_token="")


@pytest.mark.parametrize(
    "base_url",
    ["http://localhost:8080", "http://127.0.0.1:9", "http://127.8.8.8", "http://[::1]:9"],
)
def test_plain_http_is_for_this_machine(base_url: str) -> None:
    assert check(base_url=base_url).base_url == base_url


def test_a_slash_at_the_end_of_the_address_is_dropped() -> None:
    assert check(base_url="https://api.example.com/linq/").base_url == (
        "https://api.example.com/linq"
    )


def test_ids_and_numbers_are_kept_once_in_their_order() -> None:
    assert check(chat_ids=[3, 1, 3, 0]).chat_ids == (3, 1, 0)
    settings = check(phone_numbers=["+2", "+1", "+2"])
    assert settings.phone_numbers == ("+2", "+1")


def test_no_ids_is_not_every_chat() -> None:
    assert check(chat_ids=[]).chat_ids == ()
    assert not check(chat_ids=[]).lists_everything
    assert not check(phone_numbers=["+1"]).lists_everything
    assert check().lists_everything


def test_an_end_makes_the_reading_stateless() -> None:
    assert check(end="2025-05-22").is_stateless
    assert not check(start="2025-05-22").is_stateless


def test_start_and_end_are_instants_however_they_are_written() -> None:
    settings = check(start=date(2025, 5, 21), end=datetime(2025, 5, 21, 12, tzinfo=UTC))
    assert settings.start_us == parse_iso("2025-05-21")
    assert settings.end_us == parse_iso("2025-05-21T12:00:00Z")


@pytest.mark.parametrize(("days", "expected_us"), [(0, 0), (0.5, DAY_US // 2), (36_500, None)])
def test_the_lookback_is_in_days(days: float, expected_us: int | None) -> None:
    expected_us = 36_500 * DAY_US if expected_us is None else expected_us
    assert check(lookback_days=days).lookback_us == expected_us


@given(st.integers(1, 50), st.integers(0, 2**63 - 1))
def test_every_chat_is_in_exactly_one_shard(count: int, chat_id: int) -> None:
    shards = [parse_shard(f"{index}/{count}") for index in range(count)]
    assert [chat_id in shard for shard in shards if shard is not None].count(True) == 1


def test_a_shard_is_read_as_written() -> None:
    assert parse_shard("1/4") == Shard(1, 4)
    assert parse_shard(None) is None


def test_a_token_never_shows_itself() -> None:
    settings = check(api_token=f" {TOKEN} ")
    secret = settings.api_token
    assert secret.reveal() == TOKEN
    for shown in (repr(secret), str(secret), f"{secret}", "%s" % secret, repr(settings)):  # noqa: UP031
        assert TOKEN not in shown
        assert "Secret(***)" in shown


def test_a_token_is_not_pickled_or_copied() -> None:
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            leave(Secret(TOKEN))
