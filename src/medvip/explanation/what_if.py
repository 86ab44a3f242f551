"""Symptoms as handles: a fitted method with a symptom dropped or reworded, without retraining.

What was learned stays: context p, class vectors g, W_q, W_k. Only the texts change. A reworded
symptom is encoded behind the learned context; attention is the softmax over the symptoms that are
there now; the class's vector s and its length follow. The answer says what this classifier would do,
not what one trained on other symptoms would have learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from medvip.backbones.protocol import encode_with_context
from medvip.errors import SymptomError, UsageError
from medvip.explanation.logit_parts import can_be_explained, parts_of
from medvip.features import FeatureTable
from medvip.methods import Method, ViP, ViPWhitened
from medvip.methods.merge_prompt import MergePrompt
from medvip.methods.prompts import as_read, padded_by_class, require_fitting
from medvip.symptoms import SymptomSet

CHANGEABLE = ("zero-shot-symptoms-max", "vip-context-max")
"""Methods that look at symptoms and nothing else, besides those that can be explained."""


@dataclass(frozen=True)
class Change:
    """One symptom dropped, or put in other words.

    Attributes
    ----------
    class_name, symptom
        Which one, as it stands in the run's symptoms.
    reworded
        The new words; None to drop it.
    """

    class_name: str
    symptom: str
    reworded: str | None = None

    def in_words(self) -> str:
        """One line."""
        if self.reworded is None:
            return f"{self.class_name}: without {self.symptom!r}"
        return f"{self.class_name}: {self.reworded!r} instead of {self.symptom!r}"


def changed_method(method: Method, changes: Sequence[Change]) -> Method:
    """The method as it would be with these symptoms; the one given stays as it is.

    Parameters
    ----------
    method
        Fitted, and one that looks at symptoms.
    changes
        Each of another symptom.

    Raises
    ------
    SymptomError
        There is no such class or symptom, one is changed twice, a class would be left without any,
        or new words cannot be used (blank, there already, too long for the text encoder).
    UsageError
        The method does not decide by symptoms, or fits their weights, as `vip-whitened` does.
    """
    if isinstance(method, ViPWhitened):
        raise UsageError(
            f"{method.name} fits a weight for each symptom, so it cannot be told what others would have",
            fix="fit it again with the other symptoms, or use a run of the method vip",
        )
    if not (can_be_explained(method) or method.name in CHANGEABLE):
        raise UsageError(
            f"{method.name} does not decide by symptoms, so changing them changes nothing",
            fix="use a run of the method vip",
        )
    assert method.symptoms is not None  # or it would not decide by them
    symptoms = changed_symptoms(method.symptoms, changes)
    if any(change.reworded is not None for change in changes):
        options = method.options()
        context, full_stop = options.get("context", 0), options["full_stop"]
        require_fitting(symptoms, method.backbone, context, full_stop=full_stop)
    vectors = _vectors(method, symptoms)
    counts = [len(texts) for texts in vectors]
    block, present = padded_by_class(torch.cat([torch.stack(texts) for texts in vectors]), counts)
    state = method.state() | {"symptom_vectors": block}
    if isinstance(method, ViP):
        merge = _merge_prompt(state)
        with torch.no_grad():
            state |= {
                "symptom_attention": merge.attention(block, present),
                "class_vectors": merge(block, present),
            }
    else:
        state["symptom_present"] = present
    # `Method` says nothing of how one is made; all that come here are made like this.
    other = type(method)(method.backbone, symptoms, **method.options())  # type: ignore[call-arg]
    return other.load_state(method.classes, state)


def changed_symptoms(symptoms: SymptomSet, changes: Sequence[Change]) -> SymptomSet:
    """The set with the changes made; a reworded symptom stays at its place. Reviews do not go along.

    Raises
    ------
    SymptomError
        See `changed_method`.

    Examples
    --------
    >>> symptoms = SymptomSet.load("phantoms")
    >>> changed = changed_symptoms(symptoms, [Change("harmless", "plain, clean surface inside")])
    >>> len(symptoms.classes["harmless"]), len(changed.classes["harmless"])
    (4, 3)
    """
    classes = {name: list(texts) for name, texts in symptoms.classes.items()}
    touched: set[tuple[str, str]] = set()
    for change in changes:
        key = (change.class_name, change.symptom)
        if change.symptom not in symptoms.classes.get(change.class_name, ()):
            raise SymptomError(
                f"{change.class_name!r} has no symptom {change.symptom!r}",
                fix="see the run's symptoms.json for how they are written",
            )
        if key in touched:
            raise SymptomError(f"{change.symptom!r} is changed twice", fix="change it once")
        touched.add(key)
        texts = classes[change.class_name]
        if change.reworded is None:
            texts.remove(change.symptom)
        else:
            texts[texts.index(change.symptom)] = change.reworded
        if not texts:
            raise SymptomError(
                f"{change.class_name!r} would be left without symptoms", fix="keep one, or reword it"
            )
    return SymptomSet.from_mapping(
        classes, modality=symptoms.modality, provenance=symptoms.provenance, names=dict(symptoms.names)
    )


def find_change(symptoms: SymptomSet, given: str, *, reword: bool = False) -> Change:
    """A change from a line of text: ``CLASS: symptom``, or ``CLASS: old => new``.

    Class and symptom are looked for as they are written, then without regard to case; of a symptom
    the beginning is enough where only one begins so.

    Raises
    ------
    SymptomError
        There is none, or more than one.
    UsageError
        The line is of another form.

    Examples
    --------
    >>> find_change(SymptomSet.load("phantoms"), "suspicious: dark dots")
    Change(class_name='suspicious', symptom='dark dots scattered inside', reworded=None)
    """
    old, sign, new = given.partition("=>") if reword else (given, "", "")
    form = "CLASS: old words => new words" if reword else "CLASS: symptom"
    if bool(sign) is not reword or (reword and not new.strip()):
        raise UsageError(f"{given!r} is not of the form {form}", fix=f"write it as '{form}'")
    owners = [name for name in symptoms.classes if old.casefold().startswith(f"{name}:".casefold())]
    exact = [name for name in owners if old.startswith(f"{name}:")]
    owner = max(exact or owners, key=len, default=None)
    if owner is None:
        raise SymptomError(
            f"{given!r} begins with no class of this run",
            fix=f"write '{form}', with one of: {', '.join(sorted(symptoms.classes))}",
        )
    wanted = old[len(owner) + 1 :].strip()
    found = _one_symptom(wanted, symptoms.classes[owner], owner)
    return Change(owner, found, new.strip() if reword else None)


def _one_symptom(wanted: str, texts: Sequence[str], owner: str) -> str:
    """The symptom that is meant."""
    if not wanted:
        raise SymptomError(f"no symptom of {owner!r} is named", fix="write it behind the colon")
    folded = wanted.casefold()
    for meant in (
        [text for text in texts if text == wanted],
        [text for text in texts if text.casefold() == folded],
        [text for text in texts if text.casefold().startswith(folded)],
    ):
        if len(meant) == 1:
            return meant[0]
        if meant:
            raise SymptomError(
                f"{wanted!r} begins {len(meant)} symptoms of {owner!r}", fix="write more of the one you mean"
            )
    listed = "; ".join(texts)
    raise SymptomError(f"{owner!r} has no symptom {wanted!r}", fix=f"its symptoms are: {listed}")


@dataclass(frozen=True)
class ChangedImage:
    """An image whose prediction is another one now."""

    path: str
    label: str
    before: str
    after: str
    confidence_before: float
    confidence_after: float


def changed_images(
    table: FeatureTable,
    before: Float[np.ndarray, "image class"],
    after: Float[np.ndarray, "image class"],
    classes: tuple[str, ...],
) -> list[ChangedImage]:
    """Those whose most probable class differs, the surest of the new predictions first.

    Parameters
    ----------
    table
        The images; its classes may be in another order.
    before, after
        Probabilities in the order of `classes`.
    classes
        Of the method.
    """
    first, second = before.argmax(1), after.argmax(1)
    found = [
        ChangedImage(
            table.paths[i],
            table.classes[int(table.labels[i])],
            classes[first[i]],
            classes[second[i]],
            float(before[i, first[i]]),
            float(after[i, second[i]]),
        )
        for i in np.flatnonzero(first != second)
    ]
    return sorted(found, key=lambda image: -image.confidence_after)


@dataclass(frozen=True)
class LeftOut:
    """What happens without one symptom.

    Attributes
    ----------
    class_name, symptom
        Which one.
    attention
        Its weight in its class.
    stated
        Mean over the images of its share of its class's logit.
    effect
        Mean over the images of the class's logit less the same without the symptom. The others then
        get its attention, and the class's vector another length, so this is not `stated`.
    agreement
        Correlation over the images between its share and that effect; None where one is constant.
    changed
        How many images are predicted otherwise; `to_right` and `to_wrong` of them are right, or
        wrong, only now.
    accuracy
        Without it.
    """

    class_name: str
    symptom: str
    attention: float
    stated: float
    effect: float
    agreement: float | None
    changed: int
    to_right: int
    to_wrong: int
    accuracy: float


def leave_one_out(method: Method, table: FeatureTable) -> list[LeftOut]:
    """Every symptom taken away in turn; the only one of a class cannot be, and is passed over.

    Parameters
    ----------
    method
        Fitted; its logits are sums over symptoms.
    table
        The images; its classes may be in another order.

    Raises
    ------
    UsageError
        The method's logits are no sum over symptoms.
    """
    parts = parts_of(method)
    assert method.symptoms is not None  # or there would be no parts
    images, texts = table.plain, method.symptoms.for_classes(method.classes)
    owner = dict(zip(method.classes, _own_names(method), strict=True))
    position = np.array([method.classes.index(name) for name in table.classes])
    labels = position[table.labels.cpu().numpy()]
    shares = parts.shares(images)[0].cpu().numpy()
    logits = parts.logits(images).cpu().numpy()
    right = logits.argmax(1) == labels
    found = []
    for c, name in enumerate(method.classes):
        for i, text in enumerate(texts[c] if len(texts[c]) > 1 else ()):
            without = parts_of(changed_method(method, [Change(owner[name], text)]))
            after = without.logits(images).cpu().numpy()
            effect, stated = logits[:, c] - after[:, c], shares[:, c, i]
            now = after.argmax(1) == labels
            found.append(
                LeftOut(
                    name,
                    text,
                    attention=float(parts.attention[c, i]),
                    stated=float(stated.mean()),
                    effect=float(effect.mean()),
                    agreement=correlation(stated, effect),
                    changed=int((after.argmax(1) != logits.argmax(1)).sum()),
                    to_right=int((now & ~right).sum()),
                    to_wrong=int((right & ~now).sum()),
                    accuracy=float(now.mean()),
                )
            )
    return found


def correlation(first: Float[np.ndarray, "image"], second: Float[np.ndarray, "image"]) -> float | None:
    """Pearson's; None where one does not vary.

    Examples
    --------
    >>> correlation(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0]))
    1.0
    """
    if len(first) < 2 or first.std() < 1e-12 or second.std() < 1e-12:
        return None
    return round(float(np.corrcoef(first, second)[0, 1]), 12)


def as_json(change: Change | ChangedImage | LeftOut) -> dict[str, object]:
    """Plain JSON values."""
    return asdict(change)


def _own_names(method: Method) -> list[str]:
    """The symptom set's own names of the method's classes, which may be written otherwise."""
    from medvip.symptoms.class_names import match_names

    assert method.symptoms is not None
    matched = match_names(method.classes, method.symptoms.classes, where="the symptoms", allow_extra=True)
    return [matched[name] for name in method.classes]


@torch.no_grad()
def _vectors(method: Method, symptoms: SymptomSet) -> list[list[Float[Tensor, " dim"]]]:
    """Encoded symptoms of each class: those known taken over, new words encoded in the learned context."""
    assert method.symptoms is not None
    state = method.state()
    before = method.symptoms.for_classes(method.classes)
    after = symptoms.for_classes(method.classes)
    known = [
        dict(zip(texts, vectors, strict=False))
        for texts, vectors in zip(before, state["symptom_vectors"], strict=True)
    ]
    new = [text for c, texts in enumerate(after) for text in texts if text not in known[c]]
    if new:
        backbone = method.backbone
        ids, end = backbone.tokenize(as_read(new, full_stop=method.options()["full_stop"]))
        nothing = state["symptom_vectors"].new_empty(0, backbone.token_dim)
        context = state.get("context_prompt", nothing)
        encoded = iter(encode_with_context(backbone, context, backbone.embed_tokens(ids), end))
        return [
            [known[c][text] if text in known[c] else next(encoded) for text in texts]
            for c, texts in enumerate(after)
        ]
    return [[known[c][text] for text in texts] for c, texts in enumerate(after)]


@torch.no_grad()
def _merge_prompt(state: dict[str, Tensor]) -> MergePrompt:
    """ViP's merge prompt with what was learned."""
    classes, dim = state["merge_query"].shape
    merge = MergePrompt(classes, dim).to(state["merge_query"].device)
    merge.query.copy_(state["merge_query"])
    merge.query_projection.weight.copy_(state["merge_query_projection"])
    merge.key_projection.weight.copy_(state["merge_key_projection"])
    return merge
