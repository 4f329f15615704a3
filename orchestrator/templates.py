"""Configuration files of services, rendered with jinja2."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from orchestrator.errors import Problem, SpecError
from orchestrator.processes.secrets import Secrets
from orchestrator.regular import read_text
from orchestrator.spec import Account, ConfigFile, Stack

MAX_BYTES = 1_000_000

ENVIRONMENT = SandboxedEnvironment(
    autoescape=False,  # configuration files, no HTML
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
)


@lru_cache
def _compiled(text: str) -> jinja2.Template:
    """Each text once: it is rendered with and without secrets. Raises TemplateSyntaxError."""
    return ENVIRONMENT.from_string(text)


def _marked(secret: str) -> str:
    return f"\0{secret}\0"


class Templates:
    """Files of a stack's directory, with the names that they may use."""

    def __init__(self, stack: Stack, whole: Stack, directory: Path, secrets: Secrets) -> None:
        """`whole` has services that are left out on this host too: they keep their address."""
        self._stack, self._whole = stack, whole
        self._directory, self._secrets = directory, secrets

    def check(self) -> None:
        """Raises SpecError for templates that cannot be read or parsed."""
        processes = {**self._stack.services, **self._stack.jobs}
        for name, process in processes.items():
            for file in process.files.values():
                self._read(name, file)

    def signature(self) -> list[tuple[int, int]]:
        """Another one once a template was changed: times and sizes, without reading them."""
        processes = [*self._stack.services.values(), *self._stack.jobs.values()]
        names = {file.template for each in processes for file in each.files.values()} - {None}
        found = []
        for name in sorted(map(str, names)):
            try:
                seen = (self._directory / name).stat()
            except OSError:
                found.append((0, 0))
            else:
                found.append((seen.st_mtime_ns, seen.st_size))
        return found

    def _read(self, name: str, file: ConfigFile) -> str:
        if file.content is not None:
            return file.content
        path = self._directory / str(file.template)
        try:
            text = read_text(path, limit=MAX_BYTES)
            _compiled(text)
        except (OSError, UnicodeDecodeError, jinja2.TemplateSyntaxError) as error:
            problem = Problem(f"{name}.files", 1, f"template {file.template}: {error}")
            raise SpecError("stack", [problem]) from error
        return text

    def render(
        self,
        name: str,
        files: Mapping[str, ConfigFile],
        settings: Mapping[str, str],
        *,
        secret: Callable[[str], str] | None = None,
    ) -> dict[str, str]:
        """The files of one process; `settings` is what the stack file gives it as environment.

        `secret` gives what stands in place of a secret, without it the secret itself. Raises
        SpecError, ResourceError for a secret that is not there.
        """
        context = {
            "address": self._address,
            "exists": lambda path: Path(path).exists(),
            "bridge": self._bridge,
            "secret": secret or self._secrets.get,
            "sha256": lambda text: sha256(text.encode()).hexdigest(),
            "accounts": self._accounts,
            "stack": self._stack.name,
            "services": list(self._stack.services),
            "environment": settings,
            "path_log": self._path_log(name),
        }
        try:
            return {
                path: _compiled(self._read(name, file)).render(context)
                for path, file in files.items()
            }
        except SpecError:
            raise
        except Exception as error:
            problem = Problem(f"{name}.files", 1, f"cannot be rendered: {error}")
            raise SpecError("stack", [problem]) from error

    def describe(
        self,
        name: str,
        files: Mapping[str, ConfigFile],
        settings: Mapping[str, str],
        secrets: Iterable[str],
    ) -> dict[str, str]:
        """What of files and secrets stays the same when secrets are rotated."""
        return {**self.render(name, files, settings, secret=str), **dict.fromkeys(secrets, "")}

    def readable(
        self, name: str, files: Mapping[str, ConfigFile], settings: Mapping[str, str]
    ) -> set[str]:
        """Secrets whose text stands in these files; a hash of one does not tell it."""
        text = "".join(self.render(name, files, settings, secret=_marked).values())
        return {each for each in self._stack.secrets if _marked(each) in text}

    def _address(self, service: str) -> str:
        if service not in self._whole.services:
            raise jinja2.UndefinedError(f"unknown service {service}")
        return str(self._whole.address_of(service))

    def _accounts(self, service: str) -> Mapping[str, Account]:
        if service not in self._whole.services:
            raise jinja2.UndefinedError(f"unknown service {service}")
        return self._whole.services[service].accounts

    def _path_log(self, process: str) -> str:
        """Where this process is to log requests for the supervisor; empty: it need not."""
        service = self._stack.services.get(process.rpartition(":")[2])
        return str(service.path_log) if service and service.path_log else ""

    def _bridge(self, network: str) -> str:
        """The host's own address on the network: where services reach the host."""
        if network not in self._stack.networks:
            raise jinja2.UndefinedError(f"unknown network {network}")
        return str(self._stack.networks[network].address.ip)
