"""Coverage-guided fuzzing of one reader for some seconds: python tests/fuzz/run.py TARGET SECONDS.

Inputs that reach new code are kept in `.cache/fuzz/NAME` from run to run. What a reader should not do (an error that it
does not promise, a crash, too long, over 4 GiB) stops the run and leaves the input in `tests/fuzz/found/NAME`: mend the
reader and keep the file, for `tests/test_fuzz.py` reads them all.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["gmsa_models", "analysis"]):
    from targets import TARGETS

MOST_MIB, LONGEST = 4096, 1 << 16  # MiB, bytes of an input


def main() -> None:
    """Fuzz until the time is over or something is found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(TARGETS))
    parser.add_argument("seconds", type=int)
    arguments = parser.parse_args()
    target, found = TARGETS[arguments.name], Path(__file__).parent / "found" / arguments.name
    corpus = Path(".cache/fuzz") / arguments.name
    corpus.mkdir(parents=True, exist_ok=True)
    found.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed{number}").write_bytes(seed)
    options = {
        "max_total_time": arguments.seconds, "timeout": target.slowest, "rss_limit_mb": MOST_MIB, "max_len": LONGEST,
        "artifact_prefix": f"{found}/", "print_final_stats": 1,
        # Where libraries are not instrumented, few inputs are told apart: seeds stay, and any length is tried at once.
        "keep_seed": 1, "len_control": 0,
    }  # fmt: skip
    words = [f"-{name}={value}" for name, value in options.items()]
    atheris.Setup(["fuzz", *words, str(corpus), str(found)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
