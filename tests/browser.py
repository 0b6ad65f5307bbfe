"""A browser for tests of pages: Chromium without a window, and axe-core, which says who cannot use a page."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Error, Page, sync_playwright

#: Names under which systems install it; where none is there, the one that `playwright install chromium` fetched.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def launched() -> Iterator[Browser]:
    """Start a browser that ends with the block; skip the test where this machine has none."""
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    fetched = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH", Path.home() / ".cache" / "ms-playwright"))
    if executable is None and not any(fetched.glob("chromium*")):
        pytest.skip("no Chromium here: a package of the system, or `playwright install chromium`, brings one")
    with sync_playwright() as playwright:
        try:
            # A container's root has no sandbox; the pages are our own.
            browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        except Error as error:
            pytest.skip(f"a Chromium that does not start ({str(error).splitlines()[0]})")
        try:
            yield browser
        finally:
            browser.close()


def grave_findings(page: Page) -> list[str]:
    """Return what axe-core calls serious or critical on a page, a line each; none is what is wanted."""
    found = Axe().run(page).response["violations"]
    return [
        f"{finding['id']} ({finding['impact']}): {finding['help']}: {node['html'][:200]}"
        for finding in found if finding["impact"] in ("serious", "critical") for node in finding["nodes"]
    ]  # fmt: skip
