"""Configuration files of services, rendered with jinja2."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

from orchestrator.errors import Problem, SpecError
from orchestrator.processes.secrets import Secrets
from orchestrator.regular import read_text
from orchestrator.remembered import Remembered
from orchestrator.spec import Account, ConfigFile, Stack

MAX_BYTES = 1_000_000
NOTHING: Mapping[str, bytes] = MappingProxyType({})


def digest_of(text: str) -> str:
    """By which a template's text is known again."""
    return sha256(text.encode()).hexdigest()


def _marked(secret: str) -> str:
    return f"\0{secret}\0"


def _unreadable(name: str, file: ConfigFile, reason: str) -> SpecError:
    return SpecError("stack", [Problem(f"{name}.files", 1, f"template {file.template}: {reason}")])


class Templates:
    """Files of a stack's directory, with the names that they may use."""

    def __init__(
        self,
        stack: Stack,
        whole: Stack,
        directory: Path,
        secrets: Secrets,
        compiled: Mapping[str, bytes] = NOTHING,
        exists: Callable[[str], bool] = os.path.exists,
        remembered: Remembered | None = None,
    ) -> None:
        """`whole` has services that are left out on this host too: they keep their address.
        `compiled` templates, by the digests of their texts, need not be parsed; `exists` tells
        whether this host has a file. What is `remembered` need not be rendered."""
        self._stack, self._whole = stack, whole
        self._directory, self._secrets = directory, secrets
        self._compiled, self._exists, self._remembered = compiled, exists, remembered

    def check(self) -> None:
        """Raises SpecError for templates that cannot be read or parsed."""
        from orchestrator import rendering  # dear to load, and most commands render nothing

        for name, file in self._files():
            text = self._read(name, file)
            if reason := rendering.fault(text):
                raise _unreadable(name, file, reason)

    def texts(self) -> set[str]:
        """Of every template. Raises SpecError for one that cannot be read."""
        return {self._read(name, file) for name, file in self._files()}

    def _files(self) -> Iterator[tuple[str, ConfigFile]]:
        for name, process in {**self._stack.services, **self._stack.jobs}.items():
            for file in process.files.values():
                yield name, file

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
            return read_text(path, limit=MAX_BYTES)
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(name, file, str(error)) from error

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
        if not files:
            return {}
        texts = {path: self._read(name, file) for path, file in files.items()}
        rendered = partial(self._rendered, name, texts, settings)
        secret_of = secret or self._secrets.get
        if self._remembered is None:
            return rendered(secret_of, self._exists)
        return self._remembered.texts(
            name if secret is None else f"{name} without secrets",
            [texts, dict(settings), list(self._stack.services)],
            secret=secret_of,
            exists=self._exists,
            render=rendered,
        )

    def _rendered(
        self,
        name: str,
        texts: Mapping[str, str],
        settings: Mapping[str, str],
        secret: Callable[[str], str],
        exists: Callable[[str], bool],
    ) -> dict[str, str]:
        context = {
            "address": self._address,
            "exists": exists,
            "bridge": self._bridge,
            "secret": secret,
            "sha256": lambda text: sha256(text.encode()).hexdigest(),
            "accounts": self._accounts,
            "stack": self._stack.name,
            "services": list(self._stack.services),
            "environment": settings,
            "path_log": self._path_log(name),
        }
        from orchestrator import rendering

        try:
            return {
                path: rendering.render(text, context, self._compiled.get(digest_of(text)))
                for path, text in texts.items()
            }
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

    def asked(
        self, name: str, files: Mapping[str, ConfigFile], settings: Mapping[str, str]
    ) -> set[str]:
        """Secrets that these files are made with, also where only a hash of one stands in them."""
        found: set[str] = set()

        def noted(secret: str) -> str:
            found.add(secret)
            return secret

        self.render(name, files, settings, secret=noted)
        return found

    def _address(self, service: str) -> str:
        if service not in self._whole.services:
            raise LookupError(f"unknown service {service}")
        return str(self._whole.address_of(service))

    def _accounts(self, service: str) -> Mapping[str, Account]:
        if service not in self._whole.services:
            raise LookupError(f"unknown service {service}")
        return self._whole.services[service].accounts

    def _path_log(self, process: str) -> str:
        """Where this process is to log requests for the supervisor; empty: it need not."""
        service = self._stack.services.get(process.rpartition(":")[2])
        return str(service.path_log) if service and service.path_log else ""

    def _bridge(self, network: str) -> str:
        """The host's own address on the network: where services reach the host."""
        if network not in self._stack.networks:
            raise LookupError(f"unknown network {network}")
        return str(self._stack.networks[network].address.ip)
