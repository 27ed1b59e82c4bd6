"""``mmtx tune``: short trainings by which a learning rate or a batch size is chosen."""
