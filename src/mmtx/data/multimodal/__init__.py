"""Datasets of several modalities."""
