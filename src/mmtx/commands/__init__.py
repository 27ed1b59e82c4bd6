"""The `mmtx` command: one file per subcommand."""
