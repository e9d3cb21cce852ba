"""Files become documents, documents become chunks for retrieval."""
