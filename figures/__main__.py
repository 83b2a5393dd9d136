"""`python -m figures`: the same as `gmsa figures`."""

from __future__ import annotations

import sys

import typer

from figures.command import figures
from figures.terminal import one_line, replace_what_cannot_be_shown


def main() -> None:
    """Draw; bad input is one line on stderr and exit code 2."""
    replace_what_cannot_be_shown()
    try:
        typer.run(figures)
    except (ValueError, KeyError, OSError) as error:
        print(f"figures: {one_line(str(error))}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("figures: stopped; what is done is kept", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
