"""Decoded records as rows for dlt: keys, tombstones, column types and hints."""
