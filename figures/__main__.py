"""`python -m figures`: draw every figure into `figures/rendered`, those that are up to date excepted."""

from __future__ import annotations

import sys

from figures.gallery import FAILED, Job, overview_jobs, render


def main() -> int:
    """Draw all; returns the exit code, 1 when a figure failed."""

    def report(job: Job, state: str, detail: str) -> None:
        print(
            f"{job.name}: {state}{': ' + detail if detail else ''}", file=sys.stderr if state == FAILED else sys.stdout
        )

    try:
        outcome = render(overview_jobs(), command="python -m figures", report=report)
    except KeyboardInterrupt:
        print("stopped; what is drawn is kept", file=sys.stderr)
        return 130
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    sys.exit(main())
