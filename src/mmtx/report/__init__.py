"""Runs and sweeps compared: tables, pictures, and what each modality brought."""
