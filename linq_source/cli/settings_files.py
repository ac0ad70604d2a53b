"""dlt's settings files, `.dlt/secrets.toml` and `config.toml`: a bad one is named in one line.

dlt passes over one that is a folder, and of one that cannot be parsed it tells neither name nor
folder in its first line. Nothing here quotes what a file holds: it may be a secret.
"""

from __future__ import annotations

import os
from pathlib import Path

from linq_source.errors import ConfigurationError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def check_settings_files() -> None:
    """Raise `ConfigurationError` for a settings file that cannot be read."""
    from dlt.common.configuration.container import Container
    from dlt.common.configuration.providers.toml import TomlProviderReadException
    from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext

    try:
        providers = Container()[PluggableRunContext].providers.providers
    except TomlProviderReadException as error:
        for path in error.full_paths:
            _check(path)
        raise ConfigurationError(f"one of {', '.join(error.full_paths)} cannot be read") from error
    for provider in providers:
        for path in provider.locations:
            if path.endswith(".toml"):
                _check(path)


def _check(path: str) -> None:
    from tomlkit import parse
    from tomlkit.exceptions import ParseError, TOMLKitError

    if not os.path.lexists(path):
        return
    try:
        content = Path(path).read_bytes()
        if content.startswith(_BYTE_ORDER_MARK):
            raise ConfigurationError(
                f"{path} begins with a byte order mark: save it as UTF-8 without one (without BOM)"
            )
        parse(content.decode())
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{path}, line {line}: not UTF-8: save it as UTF-8") from error
    except ParseError as error:
        raise ConfigurationError(
            f"{path}, line {error.line}: not TOML: check quotes, brackets and equals signs there"
        ) from error
    except TOMLKitError as error:
        raise ConfigurationError(f"{path}: not TOML ({type(error).__name__})") from error
