"""The command line: one file a command, each a thin shell around public functions."""

import io
import sys


def run() -> None:
    """Entry point of the ``medvip`` command."""
    from medvip.cli.main import main

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may know few characters
    sys.exit(main())
