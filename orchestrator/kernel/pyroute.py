"""pyroute2's message classes without the rest of it.

`import pyroute2` loads 160 modules: 14 MB and most of the time that a command of ours takes to
start. The few message classes that we use stand on their own, so the package's own `__init__`
waits until somebody asks the package itself for something.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

NAME = "pyroute2"


class _Deferred(ModuleType):
    """The package: its submodules can be imported, the rest is loaded when it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or importlib.util.find_spec(f"{NAME}.{name}") is not None:
            raise AttributeError(name)  # `from pyroute2 import config` then imports the module
        self.__class__ = ModuleType  # type: ignore[assignment]
        spec = self.__spec__
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(self)
        return getattr(self, name)


def _defer() -> None:
    if NAME in sys.modules:
        return
    spec = importlib.util.find_spec(NAME)
    assert spec is not None
    package = _Deferred(NAME)
    package.__spec__ = spec
    package.__file__ = spec.origin
    package.__path__ = list(spec.submodule_search_locations or ())
    sys.modules[NAME] = package


_defer()

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg  # noqa: E402 - after the package was deferred
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg  # noqa: E402
from pyroute2.netlink.rtnl.rtmsg import rtmsg  # noqa: E402

__all__ = ["ifaddrmsg", "ifinfmsg", "rtmsg"]
