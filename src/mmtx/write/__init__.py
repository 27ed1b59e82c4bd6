"""``mmtx generate``: what a trained model writes, one file per kind."""
