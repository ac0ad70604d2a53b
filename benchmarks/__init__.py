"""Whole-process benchmarks of `linq_source` against other ways to do the same work."""
