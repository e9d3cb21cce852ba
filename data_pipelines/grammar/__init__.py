"""The offline source of conversations: a grammar over intents, seeds and the knowledge base."""

from __future__ import annotations

from data_pipelines.grammar.compose import compose

__all__ = ["compose"]
