"""The forecasts of docs/scale.md: requests are exactly those made, and the page is what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import scale
from benchmarks.scale_model import (
    Costs,
    Environment,
    Organisation,
    first_work,
    forecast,
    hourly_work,
    sizes,
)
from benchmarks.scale_requests import Prior, later_reads, remembered
from linq_source.planning.forecast import first_reads, listing_requests
from linq_source.sandbox import World
from tests.conftest import DAY_MS, HOUR_MS, NOW_MS, Loader

DOCS = Path(__file__).resolve().parents[1] / "docs"
MINUTE_MS = 60_000


def bound_us(world: World) -> int:
    """The server tells the time in whole seconds."""
    return world.now_ms // 1_000 * 1_000_000


def sent_us(world: World, chat_id: int) -> list[int]:
    return [message.sent_at_ms * 1_000 for message in world.messages_of(chat_id)]


def listing(world: World) -> int:
    numbers = [number.phone_number for number in world.phone_numbers.values()]
    return listing_requests(len(world.chats_seen_by(number)) for number in numbers)


def first(world: World) -> int:
    """Requests of a first run, as predicted."""
    found = (first_reads(sent_us(world, chat_id), bound_us(world)) for chat_id in world.chats)
    return listing(world) + sum(reads.requests for reads in found)


def priors(world: World) -> dict[int, Prior]:
    bound = bound_us(world)
    return {chat_id: remembered(sent_us(world, chat_id), bound) for chat_id in world.chats}


def later(
    world: World,
    before: dict[int, Prior],
    changed: frozenset[int] = frozenset(),
    older: frozenset[int] = frozenset(),
) -> int:
    """Requests of a later run, as predicted. `changed` chats have another count."""
    found = (
        later_reads(
            sent_us(world, chat_id),
            before[chat_id],
            bound_us(world),
            count_changed=chat_id in changed,
            older_changed=chat_id in older,
        )
        for chat_id in world.chats
    )
    return listing(world) + sum(reads.requests for reads in found)


@pytest.fixture
def many(serve: Callable[[World], Loader]) -> Loader:
    """230 chats of two numbers, of 0 to 5 messages, of very different ages."""
    world = World(now_ms=NOW_MS)
    ids = [world.add_phone_number(f"+1555000000{index}").id for index in range(2)]
    for index in range(230):
        seen_by = ids if index % 10 == 0 else [ids[index % 3 == 0]]
        chat = world.add_chat(phone_number_ids=seen_by)
        for number in range(index % 6):
            age_ms = (index % 23) * DAY_MS + number * 17 * HOUR_MS + index * 1_001
            world.add_message(chat.id, "hello", sent_at_ms=NOW_MS - age_ms - HOUR_MS)
    return serve(world)


def test_many_small_chats_and_runs_with_changes(many: Loader) -> None:
    world = many.world
    assert many.sync().requests == first(world)
    before = priors(world)
    resting = [chat_id for chat_id, prior in before.items() if prior.rests]
    assert 0 < len(resting) < len(before)
    assert many.sync(recheck_share=0.0).requests == later(world, before)
    # Time passes, messages are edited and sent, also to chats that rest.
    world.advance(2 * DAY_MS)
    changed = frozenset([*resting[::7], *list(before)[5::40]])
    for chat_id in changed:
        world.add_message(chat_id, "news", sent_at_ms=world.now_ms - HOUR_MS)
    assert many.sync(recheck_share=0.0).requests == later(world, before, changed)
    many.assert_equal_world()
    # All of them fall silent: one last reading, then none.
    before = priors(world)
    world.advance(30 * DAY_MS)
    assert many.sync(recheck_share=0.0).requests == later(world, before)
    assert many.sync(recheck_share=0.0).requests == later(world, priors(world)) == listing(world)


def test_a_deep_chat_and_a_late_message(small: Loader) -> None:
    world = small.world
    # 60 pages and more, with a day of more than 50 among them.
    minutes = [*range(2_000, 9_000, 5), *range(9_000, 9_000 + 1_300, 1)]
    instants = [NOW_MS - 40 * DAY_MS + minute * MINUTE_MS for minute in minutes]
    start_ms = NOW_MS - 20 * DAY_MS - 11 * HOUR_MS
    instants += [start_ms + index * 8_000 for index in range(5_200)]
    for at_ms in instants:
        world.add_message(1, "x", sent_at_ms=at_ms)
    predicted = first_reads(sent_us(world, 1), bound_us(world))
    assert predicted.splits >= 2
    assert small.sync().requests == first(world) == 2 + predicted.requests
    before = priors(world)
    assert small.sync().requests == later(world, before) == 2
    world.add_message(1, "late", sent_at_ms=NOW_MS - 35 * DAY_MS)
    only = frozenset([1])
    assert small.sync().requests == later(world, before, only, older=only)


def stored() -> dict[str, Any]:
    result: dict[str, Any] = json.loads((DOCS / "scale.json").read_text())
    return result


def costs() -> Costs:
    return Costs(**stored()["costs"])


SMALL = Organisation(chats=20_000, phone_numbers=20, messages=20_000_000)


@pytest.mark.parametrize("is_first", [True, False])
def test_more_of_anything_never_takes_less(is_first: bool) -> None:
    def seconds(organisation: Organisation = SMALL, **options: float) -> float:
        work = first_work(organisation) if is_first else hourly_work(organisation)
        return forecast(work, Environment(latency_s=0.1), replace(costs(), **options)).seconds

    assert seconds() < seconds(replace(SMALL, messages=60_000_000))
    assert seconds() < seconds(replace(SMALL, chats=40_000))
    for name, value in asdict(costs()).items():
        if "bytes" not in name:
            assert seconds() <= seconds(**{name: 2 * value + 1e-4}), name


@pytest.mark.parametrize("is_first", [True, False])
def test_a_better_environment_never_takes_longer(is_first: bool) -> None:
    work = first_work(SMALL) if is_first else hourly_work(SMALL)
    base = Environment(latency_s=0.1, rate_per_s=100.0)

    def seconds(**options: Any) -> float:
        return forecast(work, replace(base, **options), costs()).seconds

    rates = [seconds(rate_per_s=rate) for rate in (1.0, 10.0, 50.0, 1_000.0)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > rates[1]
    assert seconds(rate_per_s=1_000.0, workers=16) <= seconds(rate_per_s=1_000.0)
    assert seconds(latency_s=0.2) >= seconds()
    # A rate that cannot be passed: so many seconds at the least.
    found = forecast(work, base, costs())
    assert found.seconds >= found.requests / 100


def test_every_shard_lists_everything() -> None:
    work = first_work(SMALL)
    one = forecast(work, Environment(), costs())
    four = forecast(work, Environment(shards=4), costs())
    assert work.list_requests == 1 + 20 * 10
    assert one.requests == pytest.approx(work.list_requests + work.message_requests)
    assert four.requests == pytest.approx(4 * work.list_requests + work.message_requests)


@pytest.mark.parametrize("chats", [150, 20_000, 1_000_000])
def test_sizes_add_up_and_end_with_the_largest_single_chat(chats: int) -> None:
    groups = list(sizes(chats, 1_000 * chats, 1.5))
    assert sum(count for count, _ in groups) == pytest.approx(chats)
    assert sum(count * size for count, size in groups) == pytest.approx(1_000 * chats, rel=0.01)
    assert [size for _, size in groups] == sorted(size for _, size in groups)
    assert groups[-1][0] <= 1.5


def test_the_example_of_the_page_can_be_done_by_hand() -> None:
    place = Environment(latency_s=0.1, package_messages=5_000_000, package_s=60.0)
    found = forecast(first_work(Organisation()), place, costs())
    reading_s = 10.6e6 * (0.100 + 0.007 + 0.001) / 8
    assert found.seconds == pytest.approx(reading_s + 200 * (60 + 29), rel=0.01)
    assert (found.packages, found.limited_by) == (200, "latency")


def test_the_page_shows_the_stored_figures() -> None:
    page = (DOCS / "scale.md").read_text()
    content = scale.page_block(stored(), scale.parser().parse_args([]))
    assert scale.with_block(page, content) == page, "stale: benchmarks/scale.py --stored --write"
    assert stored()["misses"] == []


def test_durations_are_shown_in_the_largest_unit_that_fits() -> None:
    assert [scale.duration(s) for s in (5, 600, 7_200, 400_000)] == [
        "5 s", "10.0 min", "2.0 h", "4.6 days",
    ]  # fmt: skip
