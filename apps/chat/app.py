"""The chat application: ``import_path: apps.chat.app:build_app`` in the Serve configuration.

Ray reads the builder's annotation as an object to validate ``args`` with, so annotations are not postponed here.
"""

from typing import Any

from ray import serve
from ray.serve import Application

from apps.chat.args import ChatArgs
from apps.chat.deployments import (
    EmbedderDeployment,
    GuardDeployment,
    MemoryWriterDeployment,
    RetrieverDeployment,
)
from apps.chat.gateway import Gateway
from apps.chat.generator import build_generator
from core.settings import get_settings


def build_app(args: ChatArgs) -> Application:
    """Compose the graph; Ray validates ``args`` against the model before this runs."""
    guard = _deployment(GuardDeployment, "Guard", args.guard.scaling.options()).bind(args.guard.classifier)
    embedder = _deployment(EmbedderDeployment, "Embedder", args.embedder.scaling.options()).bind(args.embedder)
    retriever = _deployment(RetrieverDeployment, "Retriever", args.retriever.scaling.options()).bind(
        args.retriever, embedder, args.embedder
    )
    generator = build_generator(args.generator, get_settings())
    writer = _deployment(MemoryWriterDeployment, "MemoryWriter", args.writer.scaling.options()).bind(
        args.writer, retriever, generator
    )
    gateway = _deployment(serve.ingress()(Gateway), "Gateway", args.gateway.scaling.options())
    # The writer serves nobody: it is bound here so that it lives and dies with the graph.
    return gateway.bind(args, guard, embedder, retriever, generator, writer)


def _deployment(cls: type, name: str, options: dict[str, Any]) -> Any:
    return serve.deployment(cls).options(
        name=name, health_check_period_s=5, health_check_timeout_s=30, graceful_shutdown_timeout_s=10, **options
    )
