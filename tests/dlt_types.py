"""What dlt asks of the same types thousands of times a run is answered once in tests.

For every step of every run dlt resolves its configuration and checks its schema, and asks of each
type what fields it has, whether it is optional, a literal, a union, a secret: a third of the
processor time of a small load. The answers depend on nothing but the type, so they are remembered,
each under the very object that was asked about. The package itself runs on dlt as it is; so does
every process a test starts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

from dlt.common import typing as types
from dlt.common.configuration.specs import base_configuration as specs
from typing_extensions import get_type_hints

PURE = (
    types.extract_inner_type,
    get_type_hints,
    types.is_annotated,
    types.is_literal_type,
    types.is_optional_type,
    types.is_subclass,
    types.is_union_type,
    specs.extract_inner_hint,
    specs.is_secret_hint,
    specs.is_valid_hint,
)


def remember_types() -> None:
    """Replace dlt's functions about types in every module of dlt that has imported them."""
    remembering = {id(function): _remembering(function) for function in PURE}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "dlt":
            for attribute, value in list(vars(module).items()):
                if id(value) in remembering:
                    setattr(module, attribute, remembering[id(value)])


def _remembering(function: Callable[..., Any]) -> Callable[..., Any]:
    # By identity, for types may be equal and yet differ in the order of their parts. The arguments
    # are kept with the answer, so that no other object ever gets the id of one of them.
    answers: dict[tuple[Any, ...], tuple[Any, Any]] = {}

    @wraps(function)
    def remembered(*args: Any, **options: Any) -> Any:
        key = (*map(id, args), *options, *map(id, options.values()))
        found = answers.get(key)
        if found is None:
            found = answers[key] = (function(*args, **options), (args, options))
        return found[0]

    return remembered
