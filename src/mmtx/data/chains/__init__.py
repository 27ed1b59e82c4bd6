"""Chains of proteins: residues, and where their Cα atoms are."""
