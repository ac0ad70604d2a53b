"""Clients of dlt of which some methods, which are not public, are our own.

A method that dlt does not have any more, or that takes something else, may mean anything. Then dlt
loads as it does by itself: the same rows, only slower.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import dlt

TRIED_WITH = "dlt 1.31"

_log = logging.getLogger(__name__)
_told: WeakKeyDictionary[dlt.Pipeline, set[str]] = WeakKeyDictionary()

Class = TypeVar("Class", bound=type)


def overriding(own: Class) -> Class:
    """Check a class, as its decorator: every method is one of its base, with the same parameters.

    Raises `AttributeError` or `TypeError` where one is not.
    """
    (base,) = own.__bases__
    for name in vars(own):
        if callable(getattr(own, name)):
            ours, theirs = (
                list(inspect.signature(getattr(kind, name)).parameters) for kind in (own, base)
            )
            if ours != theirs:
                raise TypeError(f"{base.__name__}.{name} takes {', '.join(theirs)}")
    return own


def replace_client(pipeline: dlt.Pipeline, make: Callable[[Any], Any], effect: str) -> Any:
    """Give a pipeline clients of the class that `make` makes of dlt's; return its destination.

    None where dlt's own stay; that is said once, with the `effect` that it has.
    """
    try:
        destination: Any = pipeline._destination
        own = with_client_class(destination, make(destination.client_class))
    except (AttributeError, ImportError, TypeError) as error:
        told = _told.setdefault(pipeline, set())
        if effect not in told:
            told.add(effect)
            _log.warning(
                "dlt %s is not as in %s (%s): %s", dlt.__version__, TRIED_WITH, error, effect
            )
        return None
    pipeline._destination = own
    return destination


@contextmanager
def loading_with(pipeline: dlt.Pipeline, make: Callable[[Any], Any]) -> Iterator[None]:
    """Within it, `pipeline.load()` loads by clients of the class that `make` makes of dlt's."""
    destination = replace_client(pipeline, make, "it loads its own way, the same rows but slower")
    try:
        yield
    finally:
        if destination is not None:
            pipeline._destination = destination


def with_client_class(destination: Any, client_class: type) -> Any:
    """Return the same destination, with clients of another class."""
    kind = type(destination)
    members = {
        "client_class": property(lambda _: client_class),
        # Its type's name stands in the pipeline's state.
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
    }
    copy: Any = object.__new__(type(kind.__name__, (kind,), members))
    copy.__dict__.update(destination.__dict__)
    return copy
