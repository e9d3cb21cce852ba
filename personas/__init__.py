"""Characters: the card schema, its loader, the prompt that a card makes, and the ``{{user}}`` macro."""
