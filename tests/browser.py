"""Chromium for tests that look at pages, and the accessibility check that they share."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

#: Names a Chromium to use, where it is not on the path.
BROWSER_VARIABLE = "EQUIPOISE_BROWSER"

#: What axe-core calls findings that keep people out.
GRAVE = ("serious", "critical")


@contextmanager
def launched() -> Iterator[Browser]:
    """Start the machine's Chromium; the test that asks is skipped where it has none."""
    path = os.environ.get(BROWSER_VARIABLE) or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip(f"no chromium on the path and {BROWSER_VARIABLE} is unset: no browser at hand")
    with sync_playwright() as playwright:
        # --no-sandbox: the sandbox refuses root, whom containers run as; the pages are our own.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def grave_findings(page: Page) -> list[str]:
    """Return what axe-core finds on a page that is serious or critical, with the elements."""
    found = Axe().run(page).response["violations"]
    return [
        f"{item['id']} ({item['impact']}): {item['help']}: {[node['html'][:160] for node in item['nodes'][:3]]}"
        for item in found if item["impact"] in GRAVE
    ]  # fmt: skip
