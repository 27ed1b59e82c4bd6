"""Datasets of pictures, and how image files are decoded."""
