"""Several LoRA adapters trained at once, in one process, over one frozen base."""
