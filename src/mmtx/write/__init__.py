"""``mmtx generate``: what a trained model writes or does, one file per kind."""
