"""One file per objective: what is predicted, its head, its loss, its statistics."""
