"""Pictures of a lab: dependency graph, network, rules. Pure but for `survey` and `peers`."""
