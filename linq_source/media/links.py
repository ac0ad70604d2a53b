"""Which links may be followed. Pure: a link in, a verdict out.

Links come with the messages, so whoever writes to the API chooses what this machine connects to.
Signed links are secrets: no message made here quotes one.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

MAX_REDIRECTS = 5
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class RefusedLink(Exception):
    """A link that is not followed, in words that do not quote it."""


@dataclass(frozen=True)
class LinkRules:
    """What is allowed beyond https to hosts of the open Internet."""

    allow_plain_http: bool = False
    allow_private_hosts: bool = False


def checked(link: str, rules: LinkRules) -> str:
    """The link if it may be followed, spaces in it escaped. Raises `RefusedLink`."""
    parts = _split(link)
    host = parts.hostname or ""
    if parts.scheme not in ("https", "http"):
        raise RefusedLink("not an https link")
    if not host:
        raise RefusedLink("a link without a host")
    if "@" in parts.netloc:
        raise RefusedLink("a link with a user name in it")
    literal = _literal(host)
    is_here = host == "localhost" or (literal is not None and literal.is_loopback)
    if parts.scheme == "http" and not (rules.allow_plain_http or is_here):
        raise RefusedLink("a plain http link")
    if not rules.allow_private_hosts:
        if host == "localhost" or host.endswith(".localhost"):
            raise RefusedLink("a link to this machine")
        if literal is not None:
            check_address(str(literal), rules)
    return link.replace(" ", "%20")


def redirected(link: str, location: str, rules: LinkRules) -> str:
    """Where an answer to `link` leads. Raises `RefusedLink`; also when https would be left."""
    try:
        target = urljoin(link, location)
    except ValueError:
        raise RefusedLink("a redirect to what is no link") from None
    if link.startswith("https:") and _split(target).scheme == "http":
        raise RefusedLink("a redirect from https to plain http")
    return checked(target, rules)


def check_address(address: str, rules: LinkRules) -> None:
    """Raise `RefusedLink` for an IP address that is not the open Internet's."""
    if rules.allow_private_hosts:
        return
    found = _literal(address.partition("%")[0])
    if found is None or not _is_public(found):
        raise RefusedLink("a link to a private address")


def host_of(link: str) -> str:
    """The host that a link names; empty where it names none."""
    try:
        return _split(link).hostname or ""
    except RefusedLink:
        return ""


def link_hash(link: str | None) -> str:
    """What tells one link from another without being one."""
    return hashlib.sha256((link or "").encode("utf-8", "surrogatepass")).hexdigest()


def _split(link: str) -> SplitResult:
    if any(character < " " or character == "\x7f" for character in link) or "\\" in link:
        raise RefusedLink("a link with characters that no link has")
    try:
        parts = urlsplit(link)
        _ = parts.port
    except ValueError:
        raise RefusedLink("not a link") from None
    if " " in parts.netloc:
        raise RefusedLink("a link with characters that no link has")
    return parts


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_public(address: Address) -> bool:
    """Whether an address, and any IPv4 address inside it, is one of the open Internet."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if address.teredo is not None:
            return False
        if inner is not None:
            return _is_public(inner)
    return address.is_global and not address.is_multicast
