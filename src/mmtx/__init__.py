"""mmtx: experiments with multimodal transformers. Chop everything up and throw it into the set."""
