"""Debian's Chromium inside a lab's host namespace, driven by Playwright."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Page, Playwright
from rig import World

CHROMIUM = "chromium-headless-shell"
PAGE = "http://127.0.0.1:9464/"
DESKTOP, PHONE = (1280, 860), (390, 844)
SHOTS = os.environ.get("SCREENSHOTS")  # directory for the pictures of the README


@contextlib.contextmanager
def browser(playwright: Playwright, world: World, directory: Path) -> Iterator[Browser]:
    """A browser whose loopback is that of the lab's host.

    One `playwright` serves several: it runs an event loop of its own, and there can be one.
    """
    program = shutil.which(CHROMIUM)
    assert program is not None, f"{CHROMIUM} is missing; ./bootstrap.sh --dev installs it"
    wrapper = directory / "chromium"
    wrapper.write_text(f'#!/bin/sh\nexec ip netns exec {world.host} {program} "$@"\n')
    wrapper.chmod(0o755)
    found = playwright.chromium.launch(executable_path=wrapper, args=["--no-sandbox"])
    try:
        yield found
    finally:
        found.close()


@dataclass
class Visit:
    """One open page, and what it complained of."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)  # requests to anybody else

    def headline(self) -> str:
        return self.page.locator("#headline").inner_text()

    def shot(self, name: str, selector: str | None = None) -> None:
        """A picture, if pictures are wanted; of one section or of what is seen."""
        if SHOTS:
            path = Path(SHOTS, f"{name}.png")
            if selector:
                self.page.locator(selector).screenshot(path=path)
            else:
                self.page.screenshot(path=path)


@contextlib.contextmanager
def visit(
    found: Browser, size: tuple[int, int] = DESKTOP, *, dark: bool = False, url: str = PAGE
) -> Iterator[Visit]:
    """The page, loaded."""
    width, height = size
    context = found.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
    )
    page = context.new_page()
    seen = Visit(page)
    page.on(
        "console",
        lambda m: seen.complaints.append(m.text) if m.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on(
        "request",
        lambda r: None if r.url.startswith((PAGE, "data:")) else seen.foreign.append(r.url),
    )
    page.set_default_timeout(30_000)
    page.goto(url)
    try:
        yield seen
    finally:
        context.close()
