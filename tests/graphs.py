"""Random graphs of needs."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

from orchestrator.engine.plan import Stage

settings.register_profile("ci", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("ci")


@st.composite
def graphs(
    draw: st.DrawFn, *, largest: int = 9, beside: bool = False
) -> dict[str, dict[str, Stage]]:
    """Names with needs among the earlier ones, so there is no circle."""
    size = draw(st.integers(1, largest))
    stages = st.sampled_from([Stage.STARTED, Stage.READY, *([Stage.BESIDE] if beside else [])])
    return {
        f"n{number}": {
            f"n{need}": draw(stages)
            for need in draw(st.sets(st.integers(0, number - 1), max_size=4))
        }
        if number
        else {}
        for number in range(size)
    }
