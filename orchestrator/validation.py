"""What of a stack file only shows when its templates are read and rendered, with its line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec.structs import replace

from orchestrator import document, rendering
from orchestrator.app import App
from orchestrator.errors import Problem, SpecError
from orchestrator.known import Known, Sound
from orchestrator.processes.secrets import Secrets
from orchestrator.processes.service import Job, Service
from orchestrator.spec import Process
from orchestrator.templates import digest_of


class Placeholders(Secrets):
    """Stands in for secrets, which validating neither needs nor may read."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(Path("/nonexistent"), Path("/nonexistent"))
        self._names = names

    def get(self, name: str) -> str:
        """The name itself. Raises LookupError for one that the stack does not have."""
        if name not in self._names:
            raise LookupError(f"unknown secret {name}")
        return name


def check_templates(app: App, file: str) -> Known:
    """Raises SpecError with every template that cannot be read, parsed or rendered, and with
    users that do not exist here. What is known of the stack and its templates then."""
    asked: dict[str, bool] = {}

    def exists(path: str) -> bool:
        asked[path] = Path(path).exists()
        return asked[path]

    if problems := _problems(app, file, exists):
        raise SpecError(file, problems)
    texts = app.compiler.templates.texts()
    compiled = {digest_of(text): rendering.compiled(text) for text in texts}
    return Known(app.whole, compiled, Sound(tuple(app.left_out), frozenset(compiled), asked))


def _problems(app: App, file: str, exists: Callable[[str], bool]) -> list[Problem]:
    def at(path: tuple[str, ...], message: str) -> Problem:
        _, lines = document.parse(app.text, file)
        return Problem(document.dotted(path), document.line_of(path, lines), message)

    processes: list[tuple[str, str, Process]] = [
        *(("services", name, service) for name, service in app.stack.services.items()),
        *(("jobs", name, job) for name, job in app.stack.jobs.items()),
    ]
    found = [
        at((*path,), problem)
        for kind, name, process in processes
        for path, problem in _unreadable(app, kind, name, process)
    ]
    if found:
        return found
    placeholders = Placeholders(app.stack.secrets)
    compiler = replace(app.compiler, secrets=placeholders, exists=exists, remembered=None)
    try:
        nodes = compiler.nodes()
    except SpecError as error:
        return [at(tuple(each.path.split(".")), each.message) for each in error.problems]
    told: set[str] = set()
    for kind, name, process in processes:
        node = nodes.get(f"{kind[:-1]}:{name}")
        if node is None or not process.files:
            continue
        assert isinstance(node.resource, Service | Job)
        try:
            node.resource.program.files()
        except SpecError as error:
            messages = {each.message for each in error.problems} - told
            found += [at((kind, name, "files"), message) for message in sorted(messages)]
            told |= messages
    return found


def _unreadable(
    app: App, kind: str, name: str, process: Process
) -> Iterator[tuple[tuple[str, ...], str]]:
    """One file at a time: the compiler stops at the first template that is wrong."""
    for inside, file in process.files.items():
        only = {name: replace(process, files={inside: file})}
        others: dict[str, object] = {"services": {}, "jobs": {}}
        part = replace(app.stack, **{**others, kind: only})
        try:
            replace(app.compiler, stack=part).check_templates()
        except SpecError as error:
            for problem in error.problems:
                yield (kind, name, "files", inside), problem.message
