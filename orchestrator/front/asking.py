"""What `status` and `replay` ask the supervisor, which answers while they load the rest.

Light, as glance.py is.
"""

from __future__ import annotations

# The module without its enumerations, which take longer to load than the supervisor to listen.
import _signal  # type: ignore[import-not-found]

from orchestrator.front.wire import Answer

STATUS_S = 1.0  # after which `status` looks itself: a supervisor may hang
HEARD_S = 2.0  # after which `replay` does it itself
INTERRUPTS = frozenset({_signal.SIGINT, _signal.SIGTERM})
# Letters that mean themselves in JSON.
PLAIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:"


def status(run_dir: str, digest: str) -> Answer | None:
    """Asked, not yet answered; None if nobody is there to ask."""
    try:
        answer = Answer(run_dir, STATUS_S)
        answer.get(f"/status?stack={digest}")
    except OSError:
        return None
    return answer


def replay(
    run_dir: str, digest: str, what: str, *, dry_run: bool, no_deps: bool, cascade: bool
) -> Answer | None:
    """Told, not yet answered; None if nobody hears it. Once told, SIGINT and SIGTERM wait until
    who watches lets them come: it has more to say then than that it was interrupted."""
    text = f'"{what}"'
    if what.strip(PLAIN):
        import json

        text = json.dumps(what)
    wishes = ", ".join(
        f'"{name}": {"true" if wish else "false"}'
        for name, wish in (("cascade", cascade), ("deps", not no_deps), ("dry_run", dry_run))
    )
    body = f'{{"what": {text}, {wishes}}}'.encode()
    try:
        answer = Answer(run_dir, HEARD_S)
        answer.announce(f"/replay?stack={digest}", len(body))
        if not answer.is_heard():
            return None
        _signal.pthread_sigmask(_signal.SIG_BLOCK, INTERRUPTS)
        answer.tell(body)
    except (OSError, ValueError):
        let_interrupts_come()
        return None
    return answer


def let_interrupts_come() -> None:
    """They are blocked while it was told and nobody watches."""
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, INTERRUPTS)
