"""Where a language model answers, and whether that is this machine."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from medvip.errors import UsageError
from medvip.symptoms.plain_text import clean_line, shown

OPENAI = "https://api.openai.com/v1"
OPENAI_HOST = "api.openai.com"
# Stricter than the standards: what only some readers take for a host is none.
_ADDRESS = re.compile(
    r"https?://"
    r"(?:\[(?P<ip6>[0-9A-Fa-f:.]+)\]|[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?)"
    r"(?::[0-9]{1,5})?"
    r"(?:/[!-\[\]-~]*)?"  # printable ASCII without a backslash
)


@dataclass(frozen=True)
class Server:
    """An address that speaks the OpenAI protocol, and the name of a model there.

    Attributes
    ----------
    base_url
        What stands before ``/chat/completions``; mostly it ends in ``/v1``.
    model
        As the server calls it.

    Raises
    ------
    UsageError
        The address is none, or carries what would end up in logs (a user name, a password, a
        query).

    Examples
    --------
    >>> Server("http://127.0.0.1:11434/v1", "llava").is_loopback
    True
    >>> Server("https://api.openai.com/v1", "gpt-4o").host
    'api.openai.com'
    """

    base_url: str
    model: str

    def __post_init__(self) -> None:
        if not clean_line(self.model, "the model's name"):
            raise UsageError("the language model has no name", fix="say which one with --model")
        _require_address(self.base_url)

    @property
    def host(self) -> str:
        """Host, and port where one is given: what provenance may name."""
        address = urlsplit(self.base_url)
        host = address.hostname or ""
        host = f"[{host}]" if ":" in host else host
        return host if address.port is None else f"{host}:{address.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine: ``localhost`` or a loopback address, written as such.

        Any other spelling counts as another machine, so that a doubt never sends a picture.
        """
        host = urlsplit(self.base_url).hostname or ""
        if host in ("localhost", "::1"):
            return True
        try:
            return ipaddress.IPv4Address(host).is_loopback
        except ValueError:
            return False

    @property
    def keeps_to_itself(self) -> bool:
        """Whether what is sent stays on this machine, as far as an address and a name can tell.

        Ollama on this machine hands the questions for its models named ``...-cloud`` on to its
        maker's servers.
        """
        return self.is_loopback and not re.search(r"[-:]cloud$", self.model.strip().lower())


def _require_address(base_url: str) -> None:
    """Raise `UsageError` unless every reader of the address would see the same host in it."""
    fix = "write it as http://127.0.0.1:8000/v1 or https://HOST/v1"
    if "@" in base_url or "?" in base_url or "#" in base_url:
        raise UsageError(
            "the server's address holds a user name, a query or a fragment",
            fix=f"{fix}; a key belongs in the environment",
        )
    parts = _ADDRESS.fullmatch(base_url)
    try:
        good = parts and (not parts["ip6"] or ipaddress.IPv6Address(parts["ip6"]))
        good = good and urlsplit(base_url).port != 0
    except ValueError:
        good = False
    if not good:
        raise UsageError(f"{shown(base_url)} is no address of a server", fix=fix)
