"""The reference models: a tokenizer, a small Korean chat model and a small embedder, trained from scratch on CPU."""
