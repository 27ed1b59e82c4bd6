"""The `mmtx` command."""
