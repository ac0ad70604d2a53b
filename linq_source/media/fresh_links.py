"""Links to attachments that expired: API v3 gives another, to whoever has the token."""

from __future__ import annotations

import json
from urllib.parse import quote

from linq_source.api.client import Client
from linq_source.errors import ApiContractError
from linq_source.planning.contracts import contract_of
from linq_source.settings import Api, SourceOptions
from linq_source.source import open_source


class FreshLinks:
    """Asks the API for links; used by all workers at once."""

    def __init__(self, client: Client, path: str) -> None:
        self._client = client
        self._path = path

    @classmethod
    def of(cls, api: Api, api_token: str | None, base_url: str | None) -> FreshLinks | None:
        """Return None without a token, or for a version of the API that hands out no links."""
        path = contract_of(api).attachments_path
        if api_token is None or path is None:
            return None
        options: SourceOptions = {"api_token": api_token, "api": api}
        if base_url is not None:
            options["base_url"] = base_url
        return cls(Client(open_source(**options)[1].settings), path)

    def link_to(self, attachment_id: str | None) -> str | None:
        """A link that was made now; None where the API has none.

        Raises `AuthenticationError` or `ApiUnavailableError`.
        """
        if attachment_id is None:
            return None
        try:
            path = f"{self._path}/{quote(attachment_id, safe='')}"
            return self._client.get(path, {}, _link_in)[1]
        except ApiContractError as error:
            if error.status is None:
                raise
            return None

    def close(self) -> None:
        """Close all connections."""
        self._client.close()


def _link_in(body: bytes) -> str | None:
    """Raise `ValueError` for what is not JSON."""
    found = json.loads(body)
    link = found.get("download_url") if isinstance(found, dict) else None
    return link if isinstance(link, str) and link else None
