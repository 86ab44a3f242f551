"""Classes are found by name: exactly first, then by a tolerant form, never by position."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence

from medvip.errors import SymptomError
from medvip.symptoms.plain_text import shown


def normal_form(name: str) -> str:
    """Forget what folder names and file names write differently: case, ``_``, ``-``, spaces.

    Examples
    --------
    >>> normal_form("Melanocytic_Nevus") == normal_form("melanocytic  nevus")
    True
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return re.sub(r"[\s_\-]+", " ", folded).strip()


def refuse_ambiguous(names: Iterable[str], where: str) -> None:
    """Refuse names that have the same normal form.

    Raises
    ------
    SymptomError
        Two names differ only in case, ``_``, ``-`` or spaces, or a name has nothing else.

    Examples
    --------
    >>> refuse_ambiguous(["nevus", "melanoma"], "symptoms.json")
    >>> refuse_ambiguous(["nevus", "Nevus"], "symptoms.json")
    Traceback (most recent call last):
    medvip.errors.SymptomError: symptoms.json: the classes 'nevus' and 'Nevus' differ only in case, \
'_', '-' or spaces (to mend it: rename one of them, or put their symptoms together)
    """
    seen: dict[str, str] = {}
    for name in names:
        form = normal_form(name)
        if not form:
            raise SymptomError(f"{where}: the class name {shown(name)} is blank", fix="give the class a name")
        if form in seen:
            raise SymptomError(
                f"{where}: the classes {shown(seen[form])} and {shown(name)} differ only in case, "
                "'_', '-' or spaces",
                fix="rename one of them, or put their symptoms together",
            )
        seen[form] = name


def find_name(name: str, available: Iterable[str]) -> str | None:
    """Find one class: exactly, else by its normal form, else None.

    Examples
    --------
    >>> find_name("benign-keratosis", ["Benign keratosis", "melanoma"])
    'Benign keratosis'
    """
    names = list(available)
    if name in names:
        return name
    return next((other for other in names if normal_form(other) == normal_form(name)), None)


def match_names(
    wanted: Sequence[str], available: Iterable[str], *, where: str, allow_extra: bool = False
) -> dict[str, str]:
    """Find each wanted class among the available ones.

    Parameters
    ----------
    wanted
        Class names of the data.
    available
        Class names of a symptom set; their order means nothing.
    where
        The symptom file, for the error.
    allow_extra
        Whether `available` may hold classes that nobody wants.

    Returns
    -------
    dict
        Wanted name -> available name, in the order of `wanted`.

    Raises
    ------
    SymptomError
        A wanted class is missing, an available one is extra, or a name is wanted twice.

    Examples
    --------
    >>> match_names(["melanoma", "melanocytic_nevus"], ["Melanocytic nevus", "melanoma"], where="a.json")
    {'melanoma': 'melanoma', 'melanocytic_nevus': 'Melanocytic nevus'}
    """
    refuse_ambiguous(wanted, "the classes asked for")
    exact = set(available)
    tolerant = {normal_form(name): name for name in sorted(exact)}
    matched = {
        name: name if name in exact else tolerant[normal_form(name)]
        for name in wanted
        if name in exact or normal_form(name) in tolerant
    }
    missing = [name for name in wanted if name not in matched]
    extra = sorted(exact - set(matched.values()))
    if missing or (extra and not allow_extra):
        raise _mismatch(missing, extra, where, allow_extra)
    return matched


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """Find the candidate that was probably meant: nearly the same letters, or some of the words.

    Examples
    --------
    >>> closest("nevus", ["melanoma", "melanocytic_nevus"]), closest("melanomma", ["melanoma"])
    ('melanocytic_nevus', 'melanoma')
    >>> closest("lung", ["melanoma"]) is None
    True
    """
    forms = {normal_form(candidate): candidate for candidate in sorted(candidates)}
    wanted = normal_form(name)
    near = difflib.get_close_matches(wanted, forms, n=1)
    if near:
        return forms[near[0]]
    words = set(wanted.split())
    for form, candidate in forms.items():
        other = set(form.split())
        if words and other and (words <= other or other <= words):
            return candidate
    return None


def _mismatch(missing: list[str], extra: list[str], where: str, allow_extra: bool) -> SymptomError:
    problems, fixes = [], []
    if missing:
        problems.append("no symptoms for " + _listed(missing))
    if extra and not allow_extra:
        problems.append("symptoms for classes not asked for: " + _listed(extra))
    near: dict[str, str] = {}
    for name in missing:
        found = closest(name, set(extra) - set(near.values()))
        if found is not None:
            near[name] = found
    if near:
        pairs = [f"{shown(found)} to {shown(name)}" for name, found in near.items()]
        problems.append(
            "close: " + ", ".join(f"{shown(found)} ~ {shown(name)}" for name, found in near.items())
        )
        fixes.append("rename " + ", ".join(pairs))
    unresolved = [name for name in missing if name not in near]
    if unresolved:
        fixes.append("add symptoms for " + _listed(unresolved))
    surplus = [name for name in extra if name not in near.values()]
    if surplus and not allow_extra:
        fixes.append(f"remove {_listed(surplus)} (or pass allow_extra=True)")
    return SymptomError(f"{where}: {'; '.join(problems)}", fix="; ".join(fixes))


def _listed(names: list[str], limit: int = 12) -> str:
    """Quote names for a message: all of a few, the first of many.

    >>> _listed(["a", "b", "c"], limit=2)
    "'a', 'b' and 1 more"
    """
    listed = ", ".join(shown(name) for name in names[:limit])
    return listed if len(names) <= limit else f"{listed} and {len(names) - limit} more"


def spoken(class_name: str) -> str:
    """A folder's name as words.

    Examples
    --------
    >>> spoken("basal_cell-carcinoma")
    'basal cell carcinoma'
    """
    return class_name.replace("_", " ").replace("-", " ")
