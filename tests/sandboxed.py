"""A small sandbox, asked over HTTP, and what its contract calls valid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from jsonschema import Draft202012Validator

from linq_source.sandbox import (
    DEFAULT_TOKEN,
    SEEDED_NOW_MS,
    Sandbox,
    World,
)

DATA = Path(__file__).parent / "data"
API = "/api/partner/v2"
DAY_MS = 86_400_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Get = Callable[..., requests.Response]


def json_schema(node: Any) -> Any:
    """OpenAPI 3.0 as JSON Schema, made strict: all the contract's keys and no others."""
    if isinstance(node, list):
        return [json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    converted = {key: json_schema(value) for key, value in node.items() if key != "nullable"}
    if node.get("nullable"):
        converted["type"] = [converted["type"], "null"]
    if node.get("type") == "object" and "properties" in node:
        converted |= {"required": list(node["properties"]), "additionalProperties": False}
    return converted


OPENAPI = json_schema(yaml.safe_load((DATA / "linq_api_v2.openapi.yaml").read_text()))


def validate(answer: object, path: str) -> None:
    """Checks an answer against the contract: a path's 200, or an error for its envelope's name."""
    response = OPENAPI["components"]["responses"].get(path)
    if response is None:
        response = OPENAPI["paths"][API + path]["get"]["responses"]["200"]
    schema = response["content"]["application/json"]["schema"]
    schema = {**schema, "components": OPENAPI["components"]}
    checker = Draft202012Validator.FORMAT_CHECKER
    assert {"date-time", "uuid"} <= set(checker.checkers)
    Draft202012Validator(schema, format_checker=checker).validate(answer)


def text_of(instant_us: int) -> str:
    return (EPOCH + timedelta(microseconds=instant_us)).isoformat()


def ids(response: requests.Response) -> list[int]:
    assert response.status_code == 200, response.text
    return [record["id"] for record in response.json()["data"]]


@pytest.fixture
def world() -> World:
    """One number, one chat (id 1) with ten messages: two each at 0, 10, ... 40 seconds."""
    world = World(now_ms=SEEDED_NOW_MS)
    world.add_phone_number("+15550100001")
    chat = world.add_chat(display_name="Ten")
    for position in range(10):
        world.add_message(chat.id, f"m{position}", sent_at_ms=position // 2 * 10_000)
    return world


@pytest.fixture
def sandbox(world: World) -> Iterator[Sandbox]:
    with Sandbox(world) as sandbox:
        yield sandbox
    assert sandbox.failures == []


@pytest.fixture
def get(sandbox: Sandbox) -> Iterator[Get]:
    """Gets a path below the API's prefix of `sandbox`, or of the sandbox given as `of`."""
    with requests.Session() as session:
        session.trust_env = False
        session.headers["X-LINQ-INTEGRATION-TOKEN"] = DEFAULT_TOKEN

        def get(path: str, of: Sandbox = sandbox, **params: object) -> requests.Response:
            url = f"{of.url}{API}{path}"
            return session.get(url, params=params, timeout=10, allow_redirects=False)  # type: ignore[arg-type]

        yield get
