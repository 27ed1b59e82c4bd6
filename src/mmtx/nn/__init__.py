"""Plain torch, blind to modality: attention, positions, blocks, heads."""
