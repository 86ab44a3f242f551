"""Symptoms that stand in two classes tell neither from the other."""

from __future__ import annotations

from collections.abc import Mapping

from medvip.symptoms.checking import words
from medvip.symptoms.generator.stages import OfClass


def to_replace(found: Mapping[str, OfClass]) -> dict[str, dict[tuple[str, ...], str]]:
    """Class that shares a symptom with an earlier one -> words it may not use -> whose they are.

    The first class in the order of the names keeps what it has. The other may use no symptom of
    any class in its place, but keeps what it shares with later ones: those give way to it.

    Examples
    --------
    >>> to_replace({"a": OfClass(["dark"]), "b": OfClass(["Dark", "round"]), "c": OfClass(["flat"])})
    {'b': {('flat',): 'c', ('dark',): 'a'}}
    """
    said = {name: {words(text) for text in found[name].symptoms} for name in sorted(found)}
    taken: dict[str, dict[tuple[str, ...], str]] = {}
    for name in said:
        if any(said[name] & said[other] for other in said if other < name):
            taken[name] = {
                text: other
                for other in sorted(said, reverse=True)
                if other != name
                for text in sorted(said[other])
                if other < name or text not in said[name]
            }
    return taken


def shared(found: Mapping[str, OfClass]) -> list[str]:
    """The symptoms that stand in two classes or more.

    >>> shared({"a": OfClass(["dark", "flat"]), "b": OfClass(["Dark"])})
    ['dark']
    """
    first: dict[tuple[str, ...], str] = {}
    doubled = {}
    for name in sorted(found):
        for text in found[name].symptoms:
            if first.setdefault(words(text), text) is not text:
                doubled[words(text)] = first[words(text)]
    return list(doubled.values())
