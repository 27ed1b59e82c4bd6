"""One file per tokenizer: from the fields of one name to tokens."""
