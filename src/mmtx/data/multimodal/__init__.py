"""Samples of several modalities."""
