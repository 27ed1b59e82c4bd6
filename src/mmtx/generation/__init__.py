"""``mmtx generate``: one file per kind of output, each with a function whose signature declares its options."""
