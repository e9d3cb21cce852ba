"""The chat graph: gateway, guard, embedder, retriever, generator and memory writer as one Serve application."""
