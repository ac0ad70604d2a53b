"""The dbt package's variables, as `--vars` gives them: checked before anything is built."""

from __future__ import annotations

import difflib
import re
import zoneinfo
from typing import Any

import yaml

from linq_source.errors import ConfigurationError


def variables_of(text: str) -> dict[str, Any]:
    """The variables that a text of YAML gives.

    Raises `ConfigurationError` for a name that no model reads, and for a value that a model
    would stumble over.
    """
    from linq_source.operations.models import default_variables

    try:
        # Every value is taken as it is written: YAML would make 600 of 10:00.
        given = yaml.BaseLoader(text).get_single_data()
    except yaml.YAMLError as error:
        raise ConfigurationError(f"--vars {text}: is not YAML") from error
    if not isinstance(given, dict):
        raise ConfigurationError(f"--vars {text}: must be a mapping, say '{{linq_timezone: UTC}}'")
    defaults = default_variables()
    for name in given:
        if name not in defaults:
            raise ConfigurationError(
                f"--vars {name}: is not a variable; use one of {', '.join(sorted(defaults))}"
            )
    checked = {name: _CHECKS[name](name, value) for name, value in given.items()}
    _check_hours({**defaults, **checked})
    return checked


def _timezone(name: str, value: Any) -> str:
    known = sorted(zoneinfo.available_timezones())
    if value in known:
        return str(value)
    near = difflib.get_close_matches(str(value), known, n=1) or ["Europe/Berlin"]
    raise _refused(name, value, f"a time zone of the IANA database, say {near[0]}")


def _days(name: str, value: Any) -> list[int]:
    if not isinstance(value, list) or not value or not {*map(str, value)} <= {*"1234567"}:
        raise _refused(name, value, "a list of numbers from 1 (Monday) to 7, say [1, 2, 3, 4, 5]")
    return [int(day) for day in value]


def _time(name: str, value: Any) -> str:
    if not re.fullmatch("([01]?[0-9]|2[0-3]):[0-5][0-9]|24:00", str(value)):
        raise _refused(name, value, "a time from 00:00 to 24:00, say 09:00")
    return str(value)


def _minutes(name: str, value: Any) -> int:
    if not re.fullmatch("[1-9][0-9]{0,8}", str(value)):
        raise _refused(name, value, "a whole number of minutes from 1 on, say 1440")
    return int(value)


_CHECKS = {
    "linq_timezone": _timezone,
    "linq_business_days": _days,
    "linq_business_start": _time,
    "linq_business_end": _time,
    "linq_session_silence_minutes": _minutes,
}


def _check_hours(variables: dict[str, Any]) -> None:
    start, end = variables["linq_business_start"], variables["linq_business_end"]
    if end.zfill(5) <= start.zfill(5):
        raise ConfigurationError(
            f"--vars linq_business_end: {end} must be later than linq_business_start, {start}, "
            "within one day"
        )


def _refused(name: str, value: Any, wanted: str) -> ConfigurationError:
    return ConfigurationError(f"--vars {name}: {value!r} is not {wanted}")
