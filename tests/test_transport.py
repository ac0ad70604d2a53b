"""TLS and proxies over real sockets: the token reaches one host, in one header, and nobody else."""

from __future__ import annotations

import base64
import logging
import os
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from linq_source import ApiContractError, ApiUnavailableError, ConfigurationError
from linq_source.api.client import Client
from linq_source.planning.contracts import V2
from linq_source.sandbox import DEFAULT_TOKEN, Fault
from linq_source.settings import check_settings
from tests.conftest import Loader
from tests.networks import ENVIRONMENT, PASSWORD, Network, authority, bundle, network, pages

__all__ = ["authority", "bundle", "network", "pages"]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower() in ENVIRONMENT]:
        monkeypatch.delenv(name)


def ask(base_url: str, *, deadline_s: float = 20.0) -> None:
    """One request, without a pipeline around it."""
    settings = check_settings(
        api_token=DEFAULT_TOKEN, base_url=base_url, chat_ids=None, phone_numbers=None, start=None,
        end=None, lookback_days=7, page_size=10, workers=1, max_messages=None, shard=None,
        timeout_s=10.0, request_deadline_s=deadline_s,
    )  # fmt: skip
    client = Client(settings)
    try:
        client.get(V2.phone_numbers_path, {}, V2.decode_phone_numbers)
    finally:
        client.close()


def assert_one_clear_line(error: BaseException, *words: str) -> None:
    text = str(error)
    assert "\n" not in text
    assert DEFAULT_TOKEN not in text
    assert [word for word in words if word not in text] == []


def test_a_certificate_of_an_unknown_authority_is_refused_before_the_token_is_sent(
    pages: Loader, network: Network
) -> None:
    front = network.front()
    with pytest.raises(ApiContractError) as caught:
        pages.sync(base_url=front.url)
    assert_one_clear_line(caught.value, front.url, "certificate is refused", "REQUESTS_CA_BUNDLE")
    assert caught.value.exit_code == 1
    assert front.accepted == 1
    assert front.seen == []
    assert pages.sandbox.requests_log == []


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_an_authority_of_ones_own_is_trusted_when_the_environment_says_so(
    pages: Loader, network: Network, bundle: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, bundle)
    assert pages.sync(base_url=network.front().url, page_size=10).exit_code == 0
    pages.assert_equal_world()


@pytest.mark.parametrize(
    ("names", "certificate", "words"),
    [
        (("other.example",), {}, "certificate is not valid for '127.0.0.1'"),
        (("127.0.0.2",), {}, "certificate is not valid for '127.0.0.1'"),
        ((), {"not_after": datetime(2020, 1, 1, tzinfo=UTC)}, "certificate has expired"),
    ],
    ids=["another name", "another address", "expired"],
)
def test_a_certificate_for_something_else_is_refused(
    network: Network, bundle: str, monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, ...], certificate: dict[str, Any], words: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    front = network.front(*names, **certificate)
    with pytest.raises(ApiContractError) as caught:
        ask(front.url)
    assert_one_clear_line(caught.value, words)
    assert front.seen == []


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_certificates_that_cannot_be_read_are_a_matter_of_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    path = tmp_path / "wrong.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    with pytest.raises(ConfigurationError) as caught:
        ask("https://127.0.0.1:9")
    assert_one_clear_line(caught.value, str(path), "REQUESTS_CA_BUNDLE")
    assert caught.value.exit_code == 2


def test_a_tls_connection_that_breaks_is_made_again(
    pages: Loader, network: Network, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    front = network.front()
    front.breaks = 1
    report = pages.sync(base_url=front.url)
    assert (report.retries, report.exit_code) == (1, 0)
    pages.assert_equal_world()


def test_https_where_plain_http_is_spoken_is_no_matter_of_certificates(pages: Loader) -> None:
    with pytest.raises(ApiUnavailableError) as caught:
        ask(pages.sandbox.url.replace("http", "https"), deadline_s=0.1)
    assert_one_clear_line(caught.value, "check base_url")
    assert "certificate" not in str(caught.value)
    assert pages.sandbox.requests_log == []


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_passes_on_what_it_cannot_read(
    pages: Loader, network: Network, bundle: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    front, proxy = network.front(), network.proxy()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    monkeypatch.setenv(name, proxy.address())
    assert pages.sync(base_url=front.url, workers=1).exit_code == 0
    pages.assert_equal_world()
    target = front.url.removeprefix("https://")
    (head,) = proxy.heads
    assert head.startswith(f"CONNECT {target} HTTP/1.")
    assert DEFAULT_TOKEN not in head
    assert len(front.seen) == len(pages.sandbox.requests_log) > 2
    assert len(proxy.passed) > 1000
    assert DEFAULT_TOKEN.encode() not in proxy.passed


def test_a_proxy_is_given_the_credentials_of_its_address(
    network: Network, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    front, proxy = network.front(), network.proxy()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    monkeypatch.setenv("HTTPS_PROXY", proxy.address("somebody:pass%20word%2F4711@"))
    ask(front.url)
    (head,) = proxy.heads
    expected = base64.b64encode(f"somebody:{PASSWORD}".encode()).decode()
    assert f"\r\nproxy-authorization: basic {expected}\r\n".lower() in head.lower()
    assert "Proxy-Authorization" not in front.seen[0]


@pytest.mark.parametrize(("status", "kind"), [(407, ApiContractError), (403, ApiUnavailableError)])
def test_a_proxy_that_refuses_is_named_and_its_password_is_not(
    network: Network, monkeypatch: pytest.MonkeyPatch, status: int, kind: type[Exception]
) -> None:
    proxy = network.proxy(status)
    monkeypatch.setenv("HTTPS_PROXY", proxy.address("somebody:pass%20word%2F4711@"))
    with pytest.raises(kind) as caught:
        ask("https://api.example.com", deadline_s=0.1)
    assert_one_clear_line(caught.value, "the proxy", str(status))
    assert "pass" not in str(caught.value)
    assert DEFAULT_TOKEN not in "".join(proxy.heads)


@pytest.mark.parametrize(
    "address",
    [
        "ftp://somebody:secret@127.0.0.1:21",
        "http://somebody:secret@host:abc",
        "http://somebody:secret@host:99999",
        "http://somebody:secret@:8080",
        "somebody:secret@host:abc",
        "http://[::1",
        "://",
    ],
)
def test_a_proxy_that_cannot_be_used_is_a_matter_of_configuration(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", address)
    with pytest.raises(ConfigurationError) as caught:
        ask("https://api.example.com")
    assert_one_clear_line(caught.value, address.rpartition("@")[2], "HTTPS_PROXY")
    assert "secret" not in str(caught.value)


def test_a_proxy_may_be_reached_by_tls_itself(
    network: Network, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    front, proxy = network.front(), network.proxy(is_secured=True)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    monkeypatch.setenv("HTTPS_PROXY", proxy.address())
    ask(front.url)
    assert len(proxy.heads) == len(front.seen) == 1


def test_a_socks_proxy_is_given_name_and_password(
    network: Network, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    front, proxy = network.front("localhost"), network.socks_proxy()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    monkeypatch.setenv("ALL_PROXY", proxy.address("somebody:pass%20word%2F4711@"))
    port = front.server_address[1]
    ask(f"https://localhost:{port}")
    assert proxy.heads == [f"somebody {PASSWORD} localhost:{port}"]
    assert len(front.seen) == 1
    assert DEFAULT_TOKEN.encode() not in proxy.passed


def test_plain_http_goes_through_no_proxy(
    pages: Loader, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = network.proxy()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, proxy.address())
    assert pages.sync().exit_code == 0
    pages.assert_equal_world()
    assert proxy.heads == []


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_hosts_without_a_proxy_are_reached_without_one(
    network: Network, bundle: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    front, proxy = network.front(), network.proxy()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    monkeypatch.setenv("HTTPS_PROXY", proxy.address())
    monkeypatch.setenv(name, "example.com,127.0.0.1")
    ask(front.url)
    assert proxy.heads == []
    assert len(front.seen) == 1


def test_nothing_is_sent_but_what_a_request_needs(
    pages: Loader, network: Network, bundle: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys = tmp_path / "netrc"
    keys.write_text("machine 127.0.0.1 login somebody password secret\ndefault login a password b")
    monkeypatch.setenv("NETRC", str(keys))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    cookie = {"Set-Cookie": "session=4711; Path=/"}
    first = pages.sandbox.faults
    first.append(lambda e: Fault(status=503, headers=cookie) if e.count == 1 else None)
    front = network.front()
    pages.sync(base_url=front.url)
    assert len(front.seen) > 2
    for headers in front.seen:
        assert headers == {
            "Host": front.url.removeprefix("https://"),
            "X-LINQ-INTEGRATION-TOKEN": DEFAULT_TOKEN,
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": f"linq-source/{version('linq-source')}",
        }


@pytest.mark.parametrize("workers", [1, 3])
def test_connections_are_kept(
    pages: Loader, network: Network, bundle: str, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    front = network.front()
    pages.sync(base_url=front.url, page_size=2, workers=workers)
    assert len(front.seen) > 20
    assert front.accepted <= workers


def test_an_address_that_no_request_can_carry_is_a_matter_of_configuration() -> None:
    with pytest.raises(ConfigurationError) as caught:
        ask("https://bücher.example")
    assert_one_clear_line(caught.value, "bücher", "xn--")


def test_no_log_record_of_any_logger_has_a_phone_number_or_the_token(
    pages: Loader, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("canary").debug("records are seen")
        pages.sandbox.faults.append(lambda e: Fault(status=503) if e.count == 2 else None)
        assert pages.sync().retries == 1
    assert "records are seen" in caplog.text
    for record in caplog.records:
        for text in (record.getMessage(), repr(record.__dict__)):
            assert DEFAULT_TOKEN not in text
            assert "5550000001" not in text
