"""The key of a server: from the environment or a `.env` file, shown to nobody."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from medvip.errors import UsageError
from medvip.symptoms.language_model.server import OPENAI_HOST, Server
from medvip.symptoms.plain_text import shown

if TYPE_CHECKING:
    from pydantic import SecretStr

KEY_NAME = "MEDVIP_LLM_KEY"


def find_key(server: Server, *, name: str | None = None, env_file: str | Path = ".env") -> SecretStr | None:
    """The key for `server`, or None where there is none: many servers need none.

    Parameters
    ----------
    server
        A key is looked for by server, since a key sent to the wrong host is lost:
        ``MEDVIP_LLM_KEY`` is for any, ``OPENAI_API_KEY`` for https://api.openai.com alone.
    name
        Name of the variable that holds the key, instead of those two.
    env_file
        Looked into where the environment says nothing; it may be missing.

    Raises
    ------
    UsageError
        `name` is given and there is no such variable, or the key cannot be one.

    Examples
    --------
    >>> find_key(Server("http://127.0.0.1:1/v1", "m"), name="NO_SUCH_KEY", env_file="no-such-file")
    Traceback (most recent call last):
    medvip.errors.UsageError: neither the environment nor 'no-such-file' holds the variable \
that --key-name names (to mend it: set it there, or leave --key-name out)
    """
    if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name):
        raise UsageError(
            "--key-name is not the name of a variable",  # it may be the key itself: it is not repeated
            fix="put the key into an environment variable and give that variable's name",
        )
    is_openai = server.host == OPENAI_HOST and server.base_url.startswith("https://")
    names = [name] if name else [KEY_NAME, *(["OPENAI_API_KEY"] if is_openai else [])]
    known = {variable: value for variable, value in os.environ.items() if value}  # an empty one says nothing
    if not known.get(names[0]):
        known = {**_variables(Path(env_file)), **known}
    found = next((known[each] for each in names if known.get(each)), None)
    if found is None:
        if name:
            raise UsageError(  # a key may look like a name: it is not repeated here either
                f"neither the environment nor {shown(env_file, limit=300)} holds the variable that "
                "--key-name names",
                fix="set it there, or leave --key-name out",
            )
        return None
    key = found.strip()
    if not re.fullmatch(r"[!-~]{1,4096}", key):
        raise UsageError(
            "the key holds a space or a character that no key has", fix="set the variable to the key alone"
        )
    from pydantic import SecretStr

    return SecretStr(key)


def _variables(env_file: Path) -> dict[str, str]:
    """What a `.env` file sets; nothing where there is none, or none of the needed library."""
    if not env_file.is_file():
        return {}
    try:
        from dotenv import dotenv_values

        values = dotenv_values(env_file, interpolate=False)
    except ImportError as error:
        raise UsageError(
            f"{shown(env_file, limit=300)} cannot be read without the package python-dotenv",
            fix="pip install 'medvip[llm]'",
        ) from error
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{shown(env_file, limit=300)} cannot be read: {type(error).__name__}", fix="check the file"
        ) from None
    return {name: value for name, value in values.items() if value}
