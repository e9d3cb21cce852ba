"""Load goes to this machine only: a slip of the keyboard must not flood somebody else's server."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from core.errors import ConfigurationError


def require_loopback(url: str) -> str:
    """``url`` without a trailing slash.

    Raises:
        ConfigurationError: It is not plain ``http://<loopback address>:<port>``.
    """
    refusal = f"{url!r} is refused: load tests only go to this machine, such as http://127.0.0.1:8000"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 80
        address = ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise ConfigurationError(refusal) from None
    extras = parts.path.strip("/") or parts.query or parts.fragment or parts.username
    if parts.scheme != "http" or not address.is_loopback or extras:
        raise ConfigurationError(refusal)
    # Spelled as a number, so that no name service is asked where it leads.
    return f"http://[{address}]:{port}" if address.version == 6 else f"http://{address}:{port}"
