"""Uploaded documents: they join a character's knowledge at once."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Query, Response, UploadFile

from apps.chat.auth import Services, requires
from core.errors import InvalidRequest, NotFound, TooLarge
from memory.documents_store import StoredDocument

router = APIRouter(prefix="/documents", dependencies=[Depends(requires("chat"))])


@router.post("", status_code=201)
async def upload(
    services: Services,
    file: Annotated[UploadFile, File()],
    persona: Annotated[str, Form()],
    category: Annotated[str, Form(max_length=64)] = "uploaded",
) -> dict[str, Any]:
    services.library.get(persona)
    if not file.filename:
        raise InvalidRequest("the file has no name; its ending says what it is", "file")
    limit = services.args.max_upload_bytes
    content = await file.read(limit + 1)
    if len(content) > limit:
        raise TooLarge(f"the file is larger than {limit} bytes", "file")
    return _json(await services.uploads.add(persona, file.filename, content, category))


@router.get("")
async def list_documents(
    services: Services, persona: Annotated[str | None, Query()] = None
) -> dict[str, list[dict[str, Any]]]:
    if persona is not None:
        services.library.get(persona)
    return {"documents": [_json(info) for info in await services.uploads.list(persona)]}


@router.delete("/{document_id}", status_code=204)
async def delete(document_id: str, services: Services) -> Response:
    if not await services.uploads.delete(document_id):
        raise NotFound(f"unknown document '{document_id}'", "document_id")
    return Response(status_code=204)


def _json(info: StoredDocument) -> dict[str, Any]:
    return {
        "id": info.document_id,
        "persona": info.persona,
        "title": info.title,
        "category": info.category,
        "chunks": info.chunk_count,
        "created_at": info.created_at.isoformat(),
    }
