"""Texts that a model writes, token by token, and episodes in which it acts, step by step."""
