"""Pictures drawn by a program, with variables that are known because they were drawn."""

from medvip.drawings.scene import VERSION, Scene, draw, random_scene

__all__ = ["VERSION", "Scene", "draw", "random_scene"]
