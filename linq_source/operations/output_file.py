"""Files that are written beside their place, then take it."""

from __future__ import annotations

from os import W_OK, X_OK, access
from pathlib import Path

from linq_source.errors import ConfigurationError


def check_output_file(path: Path, purpose: str, suffix: str) -> None:
    """Raise `ConfigurationError` where no file can be written; `purpose` names it in errors."""
    folder = path.resolve().parent
    if not folder.is_dir():
        raise ConfigurationError(f"{purpose} {path}: the folder {folder} does not exist")
    if path.exists() and not path.is_file():
        raise ConfigurationError(f"{purpose} {path}: it is not a file; name one, *{suffix}")
    if not access(folder, W_OK | X_OK):
        raise ConfigurationError(
            f"{purpose} {path}: the folder {folder} cannot be written; name another file"
        )
