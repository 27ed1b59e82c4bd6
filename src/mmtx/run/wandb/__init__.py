"""A run as W&B shows it."""
