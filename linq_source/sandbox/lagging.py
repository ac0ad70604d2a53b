"""Answers from an old copy of the world, as a replica gives them that has not caught up."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from linq_source.sandbox.exchange import Exchange, Route
from linq_source.sandbox.world import World

View: TypeAlias = Callable[[Exchange], World | None]


def lagging(copy: World, route: Route, chat_id: int | None = None) -> View:
    """A view for `Sandbox.views`: one route, of one chat or of all, is answered from a copy.

    `World.copy` makes copies; one may be changed before it is served, so that a list gives less
    than it ever had.
    """

    def view(exchange: Exchange) -> World | None:
        is_meant = exchange.route == route and chat_id in (None, exchange.chat_id)
        return copy if is_meant else None

    return view
