"""What a character remembers, and the servers that keep it.

    endpoints            addresses of PostgreSQL and Redis for every other process (light)
    embedded             supervisor of the embedded servers: ``python -m memory.embedded --home DIR``
    tables, migrate      the schema and its migrations
    long_term            PostgreSQL: sessions, turns, profiles, memories
    api_keys, documents_store   PostgreSQL: access keys, uploaded documents
    short_term           Redis: the running conversation, the turn lock, the spool
    embedder, lexical    dense vectors (BGE-M3) and morpheme vectors (Kiwi)
    index, retriever     Qdrant: hybrid search over knowledge and a fan's memories
    writer, summarise    turns ended sessions into summaries and memories
    erasure              forgets a fan, or one memory, everywhere
    fakes                the same protocols in memory, for tests and trials

Modules are imported by name; importing the package loads nothing.
"""
