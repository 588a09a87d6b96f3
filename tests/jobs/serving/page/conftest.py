"""A browser for the tests of the page: Debian's chromium, where there is one."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright
from riverrank.jobs.dev.services import Valkey

QUIET = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
ARGUMENTS = [*QUIET.split(), "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for a module; skips where none is installed.

    No longer than a module: while Playwright is up its event loop counts as the running one of this thread, and no
    other test could start one here.
    """
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no chromium: make chromium, as root on Debian")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=ARGUMENTS, timeout=120_000)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def page_valkey() -> Iterator[Valkey]:
    """One Valkey for a module: a test uses users of its own."""
    with Valkey() as running:
        yield running
