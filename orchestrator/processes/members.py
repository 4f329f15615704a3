"""Which processes are a service's, asked again and again for little."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.processes import procfs, vitals
from orchestrator.processes.service import Program


@dataclass(slots=True)
class Members:
    """What runs of one service, without bubblewrap itself.

    Its control group lists them in one file. Bubblewrap's are looked for only among those that
    are new there: pid 1 inside, and the parent of that, which waits outside.
    """

    program: Program
    _listed: frozenset[int] = frozenset()
    _wrappers: frozenset[int] = frozenset()

    def pids(self) -> list[int]:
        """Now. Where there is no control group, by the process table each time."""
        listed = self.program.group.processes()
        if listed is None:
            return vitals.programs(self.program.running())
        now = frozenset(listed)
        if now != self._listed:
            found = {*(self._wrappers & now)}
            for pid in now - self._listed:
                if procfs.is_first(pid) and (seen := procfs.stat(pid)) is not None:
                    found |= {pid, seen.parent}
            self._listed, self._wrappers = now, frozenset(found)
        return [pid for pid in listed if pid not in self._wrappers]
