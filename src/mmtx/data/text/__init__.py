"""Datasets of text, vocabularies and tokenizers."""
