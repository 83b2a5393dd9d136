"""A real browser for the tests: Debian's chromium, started once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LONGEST_WAIT = 600_000  # milliseconds: a machine may do much else
INSPECTOR = "document.querySelector('.gmsa-inspector')?.inspector"
SCREEN = {"width": 1280, "height": 800}  # of a 13-inch laptop


def started_browser(*more: str) -> Iterator:
    """The browser, with more flags than usual if given; skips where there is none."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install -e '.[test]'"
    )
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=(*FLAGS, *more), timeout=LONGEST_WAIT)
        for name in ("new_context", "new_page"):
            setattr(browser, name, _patient(getattr(browser, name)))
        yield browser
        browser.close()


def _patient(opens: Callable) -> Callable:
    """What `opens` gives waits long before it says that something does not come."""

    def open_patiently(**options):
        opened = opens(**options)
        opened.set_default_timeout(LONGEST_WAIT)
        return opened

    return open_patiently


def wait_until(page: Any, condition: str) -> None:
    """Wait for an expression of JavaScript to be true.

    The policy of an inspector's page lets `page.wait_for_function` evaluate an expression once only, and then it fails.
    """
    look = f"const look = () => ({condition}) ? done() : setTimeout(look, 20); look();"
    page.evaluate(f"new Promise((done) => {{ {look} }})")


def settle(page: Any) -> None:
    """Wait until an opened inspector has painted what it was told, and what the sizes ask for that follow from it.

    A painting can ask for another: where panels come and go the page is laid out again. One that plays is not
    waited for.
    """
    page.evaluate(f"""new Promise((done) => {{
        let calm = 0;
        const look = () => {{
            const inspector = {INSPECTOR};
            calm = !inspector || (inspector.pending && !inspector.state.playing) ? 0 : calm + 1;
            if (calm > 2) done(); else requestAnimationFrame(look);
        }};
        requestAnimationFrame(look);
    }})""")
