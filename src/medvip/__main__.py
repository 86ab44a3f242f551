"""``python -m medvip`` is the ``medvip`` command."""

from medvip.cli import run

run()
