"""Rows of any kind of file: read one by one, without holding what is larger than memory."""
