"""Models on a hub, as `huggingface_hub` reaches it: addresses, what is downloaded and pinned, what is uploaded."""
