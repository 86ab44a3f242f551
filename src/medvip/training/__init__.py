"""One loop for all that learns: recipes, seeds, model selection."""

from medvip.training.loop import train_model
from medvip.training.recipe import RECIPES, Recipe, get_recipe

__all__ = ["RECIPES", "Recipe", "get_recipe", "train_model"]
