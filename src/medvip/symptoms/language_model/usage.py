"""What asking a language model came to: requests, answers, tokens, conversations."""

from __future__ import annotations

from typing import Any


class Usage:
    """Counts that grow while questions are asked; `LanguageModel.counting` gives one.

    Attributes
    ----------
    calls
        Requests made, repetitions included.
    prompt_tokens, completion_tokens
        Of all answers used, those from the transcripts included, as the server counted them.
    turns
        Each answer used, as JSON without keys or pictures, by the name of its transcript.

    Examples
    --------
    >>> used = Usage()
    >>> used.add_call()
    >>> turn = {"about": "sky", "turn": 1, "answer": "blue", "prompt_tokens": 11}
    >>> used.add_answer("1f2e", turn, is_new=True)
    >>> used.calls, used.answers, used.prompt_tokens, used.completion_tokens
    (1, 1, 11, 0)
    """

    def __init__(self) -> None:
        self.calls = self.prompt_tokens = self.completion_tokens = 0
        self.turns: dict[str, dict[str, Any]] = {}

    @property
    def answers(self) -> int:
        """How many different questions were answered."""
        return len(self.turns)

    @property
    def record(self) -> list[dict[str, Any]]:
        """Every conversation turn, in the order of the class and question it was about."""
        return sorted(self.turns.values(), key=lambda each: (each["about"], each["turn"]))

    def add_call(self) -> None:
        """Count a request."""
        self.calls += 1

    def add_answer(self, key: str, turn: dict[str, Any], *, is_new: bool) -> None:
        """Count an answer; one that `is_new` costs again, one found again is counted once."""
        if is_new or key not in self.turns:
            self.prompt_tokens += turn.get("prompt_tokens") or 0
            self.completion_tokens += turn.get("completion_tokens") or 0
        self.turns[key] = turn
