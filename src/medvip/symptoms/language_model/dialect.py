"""What one server takes of the OpenAI protocol, found out by what it refuses."""

from __future__ import annotations

import re
from typing import Any, Literal

Form = Literal["json_schema", "json_object", "text"]
FORMS: tuple[Form, ...] = ("json_schema", "json_object", "text")


class Refused(Exception):  # noqa: N818 - it says what happened
    """The server will not take the request as it is; `said` is its reason, made safe to show."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status
        self.said = said


class PicturesRefused(Exception):  # noqa: N818 - it says what happened
    """The server or its model takes no pictures; the text is the server's reason."""


class Dialect:
    """How to ask one server: form of the answer, and which optional parameters it takes.

    Starts with the most that the protocol offers and gives up, for good, what is refused: a JSON
    schema, then JSON mode, then plain text; ``seed``; ``max_tokens`` for its newer name.

    Examples
    --------
    >>> dialect = Dialect()
    >>> body = dialect.request({"type": "object"}, seed=1, max_tokens=100)
    >>> sorted(body), body["response_format"]["type"]
    (['max_tokens', 'response_format', 'seed'], 'json_schema')
    >>> dialect.give_up(body, "Unsupported parameter: 'max_tokens'")
    True
    >>> dialect.give_up(body, "response_format is not supported")
    True
    >>> sorted(dialect.request({"type": "object"}, seed=1, max_tokens=100))
    ['max_completion_tokens', 'response_format', 'seed']
    """

    def __init__(self) -> None:
        self.form: Form = FORMS[0]
        self._limit: str | None = "max_tokens"
        self._seed = True

    def request(self, schema: dict[str, Any], *, seed: int, max_tokens: int) -> dict[str, Any]:
        """The parameters of a request beside model and messages."""
        body: dict[str, Any] = {}
        if self._seed:
            body["seed"] = seed
        if self._limit:
            body[self._limit] = max_tokens
        if self.form == "json_schema":
            wrapped = {"name": "answer", "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": wrapped}
        elif self.form == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body

    def give_up(self, refused: dict[str, Any], said: str) -> bool:
        """Whether something of the `refused` request can be left out, now and from here on."""
        if "seed" in refused and _names(said, "seed"):
            self._seed = False
        elif "max_tokens" in refused and _names(said, "max_tokens", "max_completion_tokens"):
            self._limit = "max_completion_tokens"
        elif "max_completion_tokens" in refused and _names(said, "max_completion_tokens"):
            self._limit = None
        elif "response_format" in refused:
            asked: Form = refused["response_format"]["type"]
            self.form = FORMS[max(FORMS.index(self.form), FORMS.index(asked) + 1)]
        else:
            return False
        return True


def _names(said: str, *parameters: str) -> bool:
    return any(re.search(rf"\b{parameter}\b", said) for parameter in parameters)
