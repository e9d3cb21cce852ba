import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConfigurationError
from loadtest.loopback import require_loopback


@pytest.mark.parametrize(
    ("given_url", "used"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("http://localhost:9000", "http://127.0.0.1:9000"),
        ("http://127.3.2.1:80", "http://127.3.2.1:80"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("http://127.0.0.1", "http://127.0.0.1:80"),
    ],
)
def test_this_machine_is_taken(given_url: str, used: str) -> None:
    assert require_loopback(given_url) == used


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "http://10.0.0.1:8000",
        "http://0.0.0.0:8000",
        "http://127.0.0.1.example.com",
        "http://127.0.0.1@example.com",
        "http://localhost@example.com:8000",
        "http://user@127.0.0.1:8000",
        "https://127.0.0.1:8000",
        "http://127.0.0.1:8000/v1",
        "http://127.0.0.1:8000?next=http://example.com",
        "http://127.0.0.1:99999",
        "http://localhost.example.com",
        "http://[::ffff:10.0.0.1]:8000",
        "127.0.0.1:8000",
        "",
    ],
)
def test_everything_else_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="refused"):
        require_loopback(url)


@given(st.ip_addresses().filter(lambda address: not address.is_loopback))
def test_no_other_address_passes(address: object) -> None:
    host = f"[{address}]" if ":" in str(address) else str(address)
    with pytest.raises(ConfigurationError):
        require_loopback(f"http://{host}:8000")
