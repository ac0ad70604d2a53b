"""The ways to get every message into DuckDB, each a process of its own."""
