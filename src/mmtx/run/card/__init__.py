"""Model cards: what is recorded of a model, as a page that goes with its weights."""
