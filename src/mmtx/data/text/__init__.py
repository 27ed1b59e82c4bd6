"""Texts, and how they become ids."""
