"""ViP with a whitened penalty: the same class vector, found by a convex problem.

Ours. What `vip` is stays: frozen encoders, symptoms in plain words, closed with a full stop as the authors'
code does (`medvip.methods.vip`), behind a learned context prompt, and one vector a class from them and a
learned class vector,

    s_c = g_c + sum_j a_cj t_cj,     a_cj >= 0,  sum_j a_cj = 1.

What is other:

1. *Image vectors may be rooted.* With x what the image tower gives, number by number,

       phi(x) = sign(x) |x|^power,     f = phi(x) / |phi(x)|.

   Where a few large numbers decide a cosine a power below 1 helps (Perronnin et al., ECCV 2010, do so with
   Fisher vectors). The embedded backbone's numbers are standardised and need none: the default is 1.
2. *Symptoms in that space.* A text vector u stands for a linear score of an image, u^T x. To first order that
   is (u / phi')^T phi(x) + const, so it becomes u |m|^(1 - power) at length 1, m the training images'
   mean. Less the mean over all symptoms of the set, at length 1 again, it is t: what they have in common
   tells no class from another, and behind a context prompt they have much in common.
3. *Whitened penalty, class balance, no W_q and W_k.* g and the weights b_cj of the symptoms minimise a
   cross-entropy with a penalty in the images' shrunk covariance (`whitened_regression`): one solution
   from any start, instead of two dim x dim matrices that start as noise. Of a class's w = g' + sum_j b_j t_j,
   attention is a = b / sum(b), and s = w / sum(b).
4. *A scale for each class*: logit = k_c cos(f, s_c), k_c = |w_c|. How sharp the probabilities are is learned
   with w; the backbone's logit_scale is not used.
5. *The context prompt* learns between solutions: `ROUNDS` times a few iterations of the solver, then one step
   of Adam down the slope of the objective by the symptoms' vectors, through the text encoder.

All numbers below were chosen on training and validation images of the five sets, the same for all sets
and all numbers of shots (docs/vip-whitened.md); `fit` chooses nothing, so validation images are not used.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.adam import adam

from medvip.backbones import Backbone
from medvip.errors import NotFittedError, UsageError
from medvip.features import FeatureTable
from medvip.methods.prompts import as_read, require_fitting
from medvip.methods.vectors import require_every_class, rooted, unit
from medvip.methods.vip import PromptedSymptoms
from medvip.methods.whitened_regression import Strengths, WhitenedRegression
from medvip.symptoms import SymptomSet

ROUNDS = 4
"""How many times the context prompt learns."""
ITERATIONS = 10
"""Of the solver, before each of them."""
CONTEXT_RATE = 0.0003
ROUNDING = 1e-4
"""Of symptoms at length 1: those that differ less from their mean are alike, and stay that short."""


class ViPWhitened:
    """Classifies images by mixtures of visual symptoms that are fitted with a whitened penalty.

    Augmented views, where there are some, are learned from; together they count as one image.

    Parameters
    ----------
    backbone
        The frozen encoders.
    symptoms
        Of every class, by name. Classes may have different numbers of symptoms.
    context
        M, the number of learned context vectors; 0 turns them off.
    power
        Of the image vectors' numbers, in (0, 1]; 1 leaves them as they are.
    shrinkage
        Of the covariance; the greater, the more like a linear probe.
    penalty
        On all that is learned.
    balance
        0: every image counts alike; 1: every class.
    symptom_penalty
        On the symptoms' weights, against that on g: the smaller, the more rests on symptoms.
    full_stop
        Whether symptoms are closed with a full stop, as in `ViP`.
    seed
        Of the initial context vectors.

    Attributes
    ----------
    classes
        In the order of the columns of `predict_proba`.
    history
        One entry for each solution: the objective, and the part of it that context has taken away so far.
    """

    name: ClassVar[str] = "vip-whitened"
    needs: ClassVar[Literal["features", "pixels"]] = "features"
    uses_symptoms: ClassVar[bool] = True
    learns: ClassVar[bool] = True

    def __init__(
        self,
        backbone: Backbone,
        symptoms: SymptomSet,
        *,
        context: int = 4,
        power: float = 1.0,
        shrinkage: float = 20.0,
        penalty: float = 0.07,
        balance: float = 0.5,
        symptom_penalty: float = 0.3,
        full_stop: bool = True,
        seed: int = 1,
    ) -> None:
        _require(context >= 0, "context", context, "use 0 or more context vectors")
        _require(0 < power <= 1, "power", power, "use more than 0 and at most 1")
        for option, value in (
            ("shrinkage", shrinkage),
            ("penalty", penalty),
            ("symptom_penalty", symptom_penalty),
        ):
            _require(0 < value < float("inf"), option, value, "use a number greater than 0")
        _require(0 <= balance <= 1, "balance", balance, "use 0 (images count alike) to 1 (classes do)")
        self.backbone, self.symptoms = backbone, symptoms
        self.context, self.power, self.seed = context, power, seed
        self.shrinkage, self.penalty, self.balance = shrinkage, penalty, balance
        self.symptom_penalty, self.full_stop = symptom_penalty, full_stop
        self.classes: tuple[str, ...] = ()
        self.history: list[dict[str, Any]] = []
        self._state: dict[str, Tensor] = {}

    def fit(self, train: FeatureTable, validation: FeatureTable, *, quiet: bool = True) -> ViPWhitened:
        """Learn from `train`; `validation` is not looked at.

        Raises
        ------
        TrainingError
            A class has no training image.
        SymptomError
            Symptoms do not fit the classes, or the text encoder together with the context.
        """
        self.classes, self.history, self._state = (), [], {}
        require_every_class(train)
        require_fitting(self.symptoms, self.backbone, self.context, full_stop=self.full_stop)
        written = self.symptoms.for_classes(train.classes)
        by_class = tuple(as_read(texts, full_stop=self.full_stop) for texts in written)
        prompts = PromptedSymptoms(
            self.backbone, by_class, self.context, torch.Generator().manual_seed(self.seed)
        ).to(self.backbone.device)
        vectors = train.vectors.flatten(0, 1).double().cpu()
        slope = vectors.mean(0).abs() ** (1 - self.power)  # 1 / phi', up to a factor
        owners = np.repeat(np.arange(len(by_class)), [len(texts) for texts in by_class])
        problem = WhitenedRegression(
            unit(rooted(vectors, self.power)).numpy(),
            train.labels.repeat_interleave(train.views).cpu().numpy(),
            owners,
            Strengths(self.shrinkage, self.penalty, self.balance, self.symptom_penalty),
            train.views,
        )
        self._learn_context(problem, prompts, slope)
        with torch.no_grad():
            symptoms = self._read(prompts, slope)
        solution = problem.solve(symptoms.numpy())
        self.history.append({"round": len(self.history) + 1, "objective": solution.objective})
        return self._keep(train.classes, prompts, symptoms, owners, solution)

    @torch.no_grad()
    def predict_proba(self, images: Float[Tensor, "image dim"]) -> Float[np.ndarray, "image class"]:
        """Softmax over the classes of k_c cos(f, s_c), in double precision."""
        state = self.state()
        seen = unit(rooted(images.to(self.backbone.device), state["image_power"]))
        return (seen @ (state["class_scales"] * unit(state["class_vectors"]).T)).softmax(-1).cpu().numpy()

    def options(self) -> dict[str, Any]:
        """What it was created with."""
        numbers = ("context", "power", "shrinkage", "penalty", "balance", "symptom_penalty")
        return {name: getattr(self, name) for name in (*numbers, "full_stop", "seed")}

    def state(self) -> dict[str, Tensor]:
        """What was learned, and what follows from it so that predicting encodes no text.

        ``context_prompt`` [context, token_dim]; ``merge_query`` g [class, dim], ``symptom_vectors`` t
        [class, symptom, dim], ``symptom_attention`` a [class, symptom] (0 where a class has no further
        symptom), ``class_vectors`` s [class, dim] and ``class_scales`` k [class]; ``image_power`` [],
        which makes f of an image.
        """
        if not self._state:
            raise NotFittedError(f"this {self.name} has learned nothing yet", fix="call fit first")
        return dict(self._state)

    def load_state(self, classes: tuple[str, ...], state: dict[str, Tensor]) -> ViPWhitened:
        """From what `state` gave. Encodes nothing."""
        self.classes = classes
        self._state = {name: tensor.to(self.backbone.device) for name, tensor in state.items()}
        return self

    def _learn_context(
        self, problem: WhitenedRegression, prompts: PromptedSymptoms, slope: Float[Tensor, " dim"]
    ) -> None:
        """Turns of the solver and of the context prompt."""
        if not self.context:
            return
        context = prompts.context_prompt
        moments, steps = (torch.zeros_like(context), torch.zeros_like(context)), torch.zeros(())
        for turn in range(1, ROUNDS + 1):
            symptoms = self._read(prompts, slope)
            numbers = symptoms.detach().numpy()
            objective = problem.solve(numbers, ITERATIONS).objective
            self.history.append({"round": turn, "objective": objective})
            (gradient,) = torch.autograd.grad(
                (symptoms * torch.from_numpy(problem.slope(numbers))).sum(), context
            )
            _step_of_adam(context, gradient, moments, steps)

    @staticmethod
    def _read(prompts: PromptedSymptoms, slope: Float[Tensor, " dim"]) -> Float[Tensor, "text dim"]:
        """Each symptom's t in the learned context, of length 1; shorter where it has nothing of its own."""
        weights = nn.functional.normalize(prompts.encoded().double().cpu() * slope, dim=-1)
        return nn.functional.normalize(weights - weights.mean(0), dim=-1, eps=ROUNDING)

    def _keep(
        self,
        classes: tuple[str, ...],
        prompts: PromptedSymptoms,
        symptoms: Float[Tensor, "text dim"],
        owners: np.ndarray,
        solution: Any,
    ) -> ViPWhitened:
        """The solution in ViP's words: g, attention, s, and the scale that is left."""
        weights = torch.from_numpy(solution.weights)
        rows = [torch.from_numpy(owners == label) for label in range(len(classes))]
        vectors = nn.utils.rnn.pad_sequence([symptoms[row] for row in rows], batch_first=True)
        shares = nn.utils.rnn.pad_sequence([weights[row] for row in rows], batch_first=True)
        sums = shares.sum(1, keepdim=True)
        query, attention = torch.from_numpy(solution.vectors) / sums, shares / sums
        representative = query + torch.einsum("cs,csd->cd", attention, vectors)
        state = {
            "context_prompt": prompts.context_prompt.detach().clone(),
            "merge_query": query,
            "symptom_vectors": vectors,
            "symptom_attention": attention,
            "class_vectors": representative,
            "class_scales": sums[:, 0] * representative.norm(dim=-1),
            "image_power": torch.tensor(self.power, dtype=torch.float64),
        }
        return self.load_state(classes, state)


@torch.no_grad()
def _step_of_adam(
    parameter: Tensor, gradient: Tensor, moments: tuple[Tensor, Tensor], steps: Float[Tensor, ""]
) -> None:
    """By torch's Adam in its functional form, as in `FewRowsSGD`: its class imports torch's compiler."""
    first, second = moments
    adam(
        [parameter],
        [gradient],
        [first],
        [second],
        [],
        [steps],
        foreach=False,
        amsgrad=False,
        beta1=0.9,
        beta2=0.999,
        lr=CONTEXT_RATE,
        weight_decay=0.0,
        eps=1e-8,
        maximize=False,
    )


def _require(holds: bool, option: str, value: Any, fix: str) -> None:
    if not holds:
        raise UsageError(f"{option} is {value}", fix=fix)
