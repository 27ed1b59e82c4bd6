"""Samples of named fields: one file per dataset, and the way from samples to batches."""
