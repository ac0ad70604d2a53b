"""One run against the API: listings, the bound, every chat's changes as rows. It knows no dlt."""

from linq_source.extraction.extraction import Extraction, Listener

__all__ = ["Extraction", "Listener"]
