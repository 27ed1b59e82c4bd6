"""Datasets of episodes, and the environments to act in."""
