"""Whether a server that took the pictures also showed them to its model, by the tokens it counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_SLACK = 1.15


def pictures_left_no_trace(record: Iterable[Mapping[str, Any]]) -> bool:
    """Whether questions with a picture were counted as no longer than their text.

    Some servers drop a picture in silence when the model has no eyes; the model then makes its
    answer up. What it was shown is a matter of tokens: dozens at least for a picture.

    Parameters
    ----------
    record
        As `LanguageModel.record` gives it.

    Returns
    -------
    bool
        False also where the server counts no tokens, or no picture was sent.

    Examples
    --------
    >>> coarse = {"turn": 1, "prompt_tokens": 100, "messages": [{"text": "w" * 400}]}
    >>> fine = {"turn": 1, "messages": [{"text": "w" * 800, "picture": {}}]}
    >>> pictures_left_no_trace([coarse, fine | {"prompt_tokens": 200}])
    True
    >>> pictures_left_no_trace([coarse, fine | {"prompt_tokens": 1200}])
    False
    """
    first = [each for each in record if each["turn"] == 1 and each.get("prompt_tokens")]
    with_picture = [each for each in first if "picture" in each["messages"][0]]
    rates = [
        each["prompt_tokens"] / len(each["messages"][0]["text"])
        for each in first
        if "picture" not in each["messages"][0]
    ]
    if not with_picture or not rates:
        return False
    return all(
        each["prompt_tokens"] <= _SLACK * max(rates) * len(each["messages"][0]["text"])
        for each in with_picture
    )
