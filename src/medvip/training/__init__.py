"""One loop for all that learns: recipes, seeds, model selection."""

from medvip.training.encoded_once import Prompted, go_back
from medvip.training.few_rows import FewRows, add_gradient
from medvip.training.loop import Training, train_model, train_together
from medvip.training.recipe import RECIPES, Recipe, get_recipe

__all__ = [
    "RECIPES",
    "FewRows",
    "Prompted",
    "Recipe",
    "Training",
    "add_gradient",
    "get_recipe",
    "go_back",
    "train_model",
    "train_together",
]
