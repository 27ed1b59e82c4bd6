"""A run and its directory: status, metrics, checkpoints, W&B."""
