"""The test suite: real HTTP to the sandbox, real databases, real processes."""
