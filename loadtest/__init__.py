"""Load tests over HTTP: the graph against bare vLLM (``bench``) and many fans at once (``locustfile``)."""
