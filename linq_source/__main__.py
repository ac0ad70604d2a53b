"""`python -m linq_source`."""

from linq_source.cli import main

main()
