"""This process among others: its rank, its streams, the signals it gets."""
