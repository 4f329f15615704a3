"""What up, replay and heal took, node by node."""

from __future__ import annotations

from typing import Any

from dashboards.boards.queries import UP, R
from dashboards.panels import gantt, graph, lines, number, rows

SLUG = "setup"
TITLE = "Set-up"
ROWS: list[tuple[str, list[Any]]] = [
    (
        "The last run that built something",
        [
            number(
                "Took",
                "Wall time of the last `up`.",
                "s",
                f"orchestrator_last_run_duration_seconds{{{UP}}}",
            ),
            number(
                "Floor",
                "Own work along the critical path: no order of work could be faster.",
                "s",
                "orchestrator_setup_critical_path_seconds",
            ),
            number(
                "Budget",
                "What `up` may take (supervision.setup_budget).",
                "s",
                "orchestrator_setup_budget_seconds",
            ),
            number(
                "Work at once",
                "Own work of all nodes divided by the floor: how much went on side by side.",
                "short",
                f'sum(orchestrator_node_phase_last_seconds{{{UP},phase=~"provision|readiness_wait"}})'
                " / on () orchestrator_setup_critical_path_seconds",
            ),
            gantt(
                "Timeline of up",
                "Each node from its release on: its phases in a row.",
                f"label_replace(min by (node) (orchestrator_node_phase_offset_seconds{{{UP}}}),"
                ' "phase", " start", "", "") or '
                f"sum by (node, phase) (orchestrator_node_phase_last_seconds{{{UP},"
                'phase!~"dependency_wait|slot_wait"})',
                hidden=" start",
            ),
            rows(
                "Critical chain",
                "Nodes on the critical path, with their own time.",
                "s",
                f"sort_desc(orchestrator_node_critical{{{UP}}} * on (node) group_left ()"
                " sum by (node) (orchestrator_node_phase_last_seconds"
                f'{{{UP},phase!="dependency_wait"}}) > 0)',
                hidden=("operation",),
            ),
            rows(
                "Least slack",
                "Nodes that could take the least longer without delaying the run.",
                "s",
                f"bottomk(10, orchestrator_node_slack_seconds{{{UP}}})",
                hidden=("operation",),
            ),
        ],
    ),
    (
        "Graph and runs",
        [
            graph(
                "Dependency graph",
                "Nodes with 1 where they are ready, arrows to what they need.",
                'label_replace(orchestrator_dag_node_info, "id", "$1", "node", "(.*)") * on (node)'
                ' group_left () (sum by (node) (orchestrator_node_state{state="ready"})'
                " or sum by (node) (orchestrator_dag_node_info) * 0)",
                'label_join(label_replace(label_replace(orchestrator_dag_edge_info, "source", "$1",'
                ' "node", "(.*)"), "target", "$1", "depends_on", "(.*)"), "id", ">", "source",'
                ' "target")',
            ),
            rows(
                "States",
                "The state that each node's last event left it in.",
                "short",
                "orchestrator_node_state",
                height=12,
            ),
            lines(
                "Attempts that failed",
                "Attempts a minute that ended in an error or ran out of time.",
                "short",
                [
                    (
                        (
                            "sum by (node) (60 * rate(orchestrator_node_attempts_total"
                            f'{{outcome=~"error|timeout"}}{R})) > 0 or vector(0)'
                        ),
                        "{{node}}",
                    )
                ],
            ),
            lines(
                "Runs",
                "Runs an hour by operation and outcome.",
                "short",
                [
                    (
                        (
                            "sum by (operation, outcome) (increase("
                            "orchestrator_run_duration_seconds_count[1h]))"
                        ),
                        "{{operation}} {{outcome}}",
                    )
                ],
            ),
            lines(
                "Readiness probes",
                "How long a probe took in the mean, by its protocol and its answer.",
                "s",
                [
                    (
                        (
                            "orchestrator_readiness_probe_duration_seconds_sum / "
                            "orchestrator_readiness_probe_duration_seconds_count"
                        ),
                        "{{type}} {{result}}",
                    )
                ],
            ),
            lines(
                "Replayed steps",
                "Steps of replays in the last hour: as before, not as before, left out.",
                "short",
                [
                    (
                        "sum by (result) (increase(orchestrator_replay_steps_total[1h]))",
                        "{{result}}",
                    )
                ],
            ),
            lines(
                "Left by down",
                "Nodes that were still there after the last `down`; there should be none.",
                "short",
                [("orchestrator_teardown_leaked_resources", "{{kind}}")],
            ),
            lines(
                "Drift",
                "Drift found, by kind of node, in the last hour.",
                "short",
                [
                    (
                        ("sum by (kind) (increase(orchestrator_drift_found_total[1h]))"),
                        "{{kind}}",
                    )
                ],
            ),
        ],
    ),
]
