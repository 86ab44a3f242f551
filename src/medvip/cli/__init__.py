"""The command line: one file a command, each a thin shell around public functions."""

import sys


def run() -> None:
    """Entry point of the ``medvip`` command."""
    from medvip.cli.main import main

    sys.exit(main())
