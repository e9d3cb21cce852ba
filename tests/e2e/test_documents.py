"""A document that is uploaded joins the character's knowledge at once, and leaves it at once."""

from __future__ import annotations

TITLE = "해달 라운지 이용 안내"
TEXT = """# 해달 라운지 이용 안내

해달 라운지는 별관 7층에 있으며 평일 오전 8시부터 오후 9시까지 이용합니다.
해달 라운지 예약은 총무팀 내선 1777에서 받습니다.
"""
QUESTION = "해달 라운지는 몇 층에 있습니까?"


def upload(graph, name: str = "lounge.md", text: str = TEXT):
    files = {"file": (name, text.encode(), "text/markdown")}
    answer = graph.http.post("/documents", files=files, data={"persona": "kelron", "category": "시설"})
    assert answer.status_code == 201, answer.text
    return answer.json()


def titles(graph) -> list[str]:
    session = graph.open_session("kelron")["session_id"]
    return [source["title"] for source in graph.chat(session, QUESTION)["sources"]]


def listed(graph, persona: str) -> list[str]:
    answer = graph.http.get("/documents", params={"persona": persona})
    return [document["id"] for document in answer.json()["documents"]]


def test_an_upload_is_found_and_a_deleted_one_is_not(graph):
    assert TITLE not in titles(graph)
    document = upload(graph)
    try:
        assert (document["title"], document["category"]) == (TITLE, "시설")
        assert document["chunks"] >= 1
        assert document["id"] in listed(graph, "kelron")
        assert document["id"] not in listed(graph, "haneul")
        assert TITLE in titles(graph)
        assert upload(graph, "again.md")["id"] == document["id"]
    finally:
        assert graph.http.delete(f"/documents/{document['id']}").status_code == 204
    assert document["id"] not in listed(graph, "kelron")
    assert TITLE not in titles(graph)
    assert graph.http.delete(f"/documents/{document['id']}").status_code == 404


def test_one_characters_documents_are_not_anothers(graph):
    document = upload(graph)
    try:
        session = graph.open_session("haneul")["session_id"]
        assert TITLE not in [source["title"] for source in graph.chat(session, QUESTION)["sources"]]
    finally:
        graph.http.delete(f"/documents/{document['id']}")
