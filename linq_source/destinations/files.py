"""What the destinations in a folder or bucket have in common."""

from __future__ import annotations

from pathlib import Path
from secrets import token_hex

from linq_source.destinations.base import Destination
from linq_source.destinations.bucket import Bucket
from linq_source.destinations.lake.naming import Naming
from linq_source.destinations.remote import Remote, connected
from linq_source.destinations.scratch import check_folder_writable
from linq_source.destinations.table_formats import check_folder


class Files(Destination):
    """Tables that are files."""

    makes_tables = False
    attachments_at_once = 50_000
    beyond_reach = (
        "backups of the bucket, and versions of objects that it keeps by itself, are not touched"
    )

    def check_exists(self, remote: Remote) -> None:
        """Raise `DestinationError` where there is no such bucket."""
        Bucket.of(remote).check_exists()

    def check_writable(self, table_format: str | None) -> None:
        """Make a file, and remove it."""
        with connected(self.pipeline) as remote:
            bucket = Bucket.of(remote)
            self.check_exists(remote)
            self.check_files(remote, table_format)
            if bucket.is_local:
                check_folder_writable(Path(bucket.root))
            else:
                name = f".linq-source-check-{token_hex(8)}.json"
                bucket.create_json(name, {})
                bucket.remove(name)

    def check_files(self, remote: Remote, table_format: str | None) -> None:
        """Raise `ConfigurationError` for a folder or a layout that a format cannot have."""
        bucket = Bucket.of(remote)
        kept_as = table_format or self.table_format
        check_folder(kept_as, bucket.root, is_local=bucket.is_local)
        if kept_as is None:
            Naming(bucket.layout)
