"""The live page in a real Chromium, on a lab that really comes up, breaks and heals."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from browser import DESKTOP, PAGE, PHONE, browser, visit
from names import next_name
from playwright.sync_api import Browser, Playwright, expect, sync_playwright
from rig import World, eventually

READY = "Everything is ready."


@pytest.fixture(scope="module")
def lab(watched: World) -> World:
    return watched


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def chromium(
    playwright: Playwright, lab: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    with browser(playwright, lab, tmp_path_factory.mktemp("chromium")) as found:
        yield found


def busy(lab: World) -> None:
    """A few requests, so that there is a path to see."""
    for number in range(30):
        lab.curl(f"http://localhost:8080/api/products/{number % 3 + 1}", "-f").ok()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_page_shows_the_whole_lab(
    lab: World, chromium: Browser, size: tuple[int, int], dark: bool
) -> None:
    nodes = lab.node_states()
    name = f"page-{'phone' if size == PHONE else 'desktop'}{'-dark' if dark else ''}"
    with visit(chromium, size, dark=dark) as seen:
        page = seen.page
        expect(page.locator("#headline")).to_have_text(READY, timeout=30_000)
        expect(page.locator("#link")).to_have_text("live")
        expect(page.locator("#byline")).to_contain_text(f"{len(nodes)} nodes")
        page.get_by_role("tab", name="List").click()
        shown = page.locator("#canvas [data-node]")
        assert {each.get_attribute("data-node") for each in shown.all()} == set(nodes)
        page.get_by_role("tab", name="List" if size == PHONE else "Everything").click()
        expect(page.locator("#canvas [data-node]")).to_have_count(len(nodes))
        if not (dark and size == PHONE):
            seen.shot(name)
        busy(lab)
        page.locator("#path").scroll_into_view_if_needed()
        expect(page.locator("#path-body tbody tr").first).to_contain_text("nginx-lb")
        expect(page.locator("#path-body tbody")).to_contain_text("postgres-db")
        page.locator("#network").scroll_into_view_if_needed()
        for words in ("veth-redis-br", "10.0.0.50/16", "br-app"):
            expect(page.locator("#network-body")).to_contain_text(words)
        if size == DESKTOP and not dark:
            seen.shot("page-path", "#path")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= size[0], "the page must not scroll sideways"
        assert seen.complaints == []
        assert seen.foreign == []


def test_page_follows_a_fault_and_its_healing(lab: World, chromium: Browser) -> None:
    with visit(chromium) as seen:
        page = seen.page
        expect(page.locator("#headline")).to_have_text(READY, timeout=30_000)
        states = page.evaluate_handle(
            """() => {
                const seen = [];
                const headline = document.querySelector("#headline");
                new MutationObserver(() => seen.push(headline.textContent))
                    .observe(headline, { childList: true, characterData: true, subtree: true });
                return seen;
            }"""
        )
        lab.kill("redis-cache")
        expect(page.locator("#run-list [role=option]").first).to_contain_text(
            "Healed", timeout=60_000
        )
        expect(page.locator("#run-list [role=option]").first).to_contain_text("redis-cache")
        expect(page.locator("#log")).to_contain_text("redis-cache is ready")
        expect(page.locator("#headline")).to_have_text(READY, timeout=30_000)
        assert any("redis-cache" in text for text in states.json_value())
        assert seen.complaints == []


def test_page_is_worked_by_keyboard_alone(lab: World, chromium: Browser) -> None:
    with visit(chromium) as seen:
        page = seen.page
        expect(page.locator("#headline")).to_have_text(READY, timeout=30_000)
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.getAttribute('role')") == "tab":
                break
        chosen = page.locator("#views [aria-selected=true]")
        before = chosen.inner_text()
        page.keyboard.press("ArrowRight")
        assert chosen.inner_text() != before
        page.keyboard.press("Tab")  # into the graph
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        expect(page.locator("#detail h3")).to_be_visible()
        expect(page.locator("#detail .commands")).to_contain_text("orchestrator replay")
        assert seen.complaints == []


def test_timeline_of_a_run_has_its_critical_path(lab: World, chromium: Browser) -> None:
    runs = lab.orchestrator("analyze", "runs", "--json").ok().json()
    first = next(run for run in runs if run["command"] == "up")
    chain = lab.orchestrator("analyze", "critical-chain", "--run", first["run"], "--json").json()
    with visit(chromium) as seen:
        page = seen.page
        page.locator("#run-list [role=option]", has_text="Brought up").last.click()
        marked = page.locator("#run .gantt li[data-critical] .name")
        wanted = {link["node"].split(":")[-1] for link in chain["links"]}
        assert wanted

        def shown() -> set[str]:
            texts = marked.all_inner_texts()
            return {text.removeprefix("▸").strip().split(":")[-1] for text in texts}

        eventually(lambda: shown() == wanted)  # until then the run that was shown before
        assert seen.complaints == []


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_request_opens_into_its_waterfall(
    lab: World, chromium: Browser, size: tuple[int, int]
) -> None:
    trace = f"{os.getpid():016x}{size[0]:016x}"
    parent = f"traceparent: 00-{trace}-00000000000000aa-01"
    lab.curl("http://localhost:8080/api/products/3", "-f", "-H", parent).ok()
    with visit(chromium, size) as seen:
        page = seen.page
        page.locator("#path").scroll_into_view_if_needed()
        button = page.locator(f'#path-body [data-part="{trace}"]')
        button.click()
        expect(page.locator("#path-body .waterfall li .name").first).to_have_text("nginx-lb")
        expect(page.locator("#path-body .waterfall")).to_contain_text("product-service")
        cut_off = """boxes => boxes.filter(box => box.scrollWidth > box.clientWidth
            || box.getBoundingClientRect().right > innerWidth).map(box => box.textContent)"""
        assert page.locator(".waterfall .took").evaluate_all(cut_off) == []
        # Nothing moves while one reads, whoever asks meanwhile.
        before = page.locator("#path-body .request").all_inner_texts()
        busy(lab)
        expect(page.locator("#path-body .figures dd").first).not_to_have_text("1.0")
        assert page.locator("#path-body .request").all_inner_texts() == before
        button.click()
        expect(page.locator("#path-body .waterfall")).to_have_count(0)
        expect(page.locator("#path-body .request").last).to_contain_text("the supervisor itself")
        assert seen.complaints == []


def test_graph_comes_up_before_ones_eyes(
    playwright: Playwright, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("live")
    world = World.build(next_name(), directory)
    try:
        run = world.start("up", "--supervise", "--live")
        eventually(lambda: world.on_host("curl", "-sf", PAGE).code == 0)
        with browser(playwright, world, directory) as chromium, visit(chromium) as seen:
            headlines = set()

            def is_up() -> bool:
                headlines.add(seen.headline())
                print(seen.headline())  # for whoever reads why it did not
                return seen.headline() == READY

            eventually(is_up, within_s=90)
            assert len(headlines) > 1
            assert seen.complaints == []
        run.communicate(timeout=60)
        assert run.returncode == 0
    finally:
        world.orchestrator("down", "--volumes")
        world.remove()


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ([], "200"),
        (["-H", "Host: localhost:9464"], "200"),
        (["-H", "Host: rebound.example:9464"], "403"),
        (["-H", "Sec-Fetch-Site: cross-site"], "403"),
        (["-H", "Origin: http://rebound.example:9464"], "403"),
        (["-X", "POST"], "405"),
        (["-X", "DELETE"], "405"),
    ],
)
def test_only_near_ones_read_and_nobody_writes(lab: World, options: list[str], status: str) -> None:
    url = f"{PAGE}api/status"
    told = lab.on_host("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *options, url)
    assert told.out == status


def test_page_is_not_served_on_the_bridge(lab: World) -> None:
    told = lab.inside(
        "prometheus", "curl", "-s", "-w", "%{http_code}", "-o", "/dev/null", "http://10.0.0.1:9464/"
    )
    assert told.out == "404"
    metrics = lab.inside("prometheus", "curl", "-sf", "http://10.0.0.1:9464/metrics").ok().out
    assert "orchestrator_build_info" in metrics


def test_status_tells_where_the_page_is(lab: World) -> None:
    assert json.loads(lab.orchestrator("status", "--json").ok().out)["page"].startswith(PAGE)
