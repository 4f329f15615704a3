"""Every command by its name: which module of orchestrator.commands has it, and what it does."""

from __future__ import annotations

PROGRAM = "orchestrator"  # also when run by `python -m`, so that completion always works
COMPLETE_VARIABLE = "_ORCHESTRATOR_COMPLETE"  # by which the shell's script asks for candidates
SUMMARY = "Run a microservice platform on this host from kernel primitives alone."

COMMANDS = {
    "up": ("run", "Bring up everything that is missing."),
    "down": ("run", "Take everything away and leave the host as it was."),
    "replay": ("replay", "Rebuild one layer or node, and prove that nothing else was touched."),
    "supervise": ("supervise", "Watch the lab and mend what breaks; `up` starts this by itself."),
    "status": ("status", "What is there now: state, pid, address, uptime, last error."),
    "plan": ("look", "What `up` would do, and why."),
    "path": ("path", "The request path now: rates, times and errors, hop by hop."),
    "trace": ("path", "One request as a waterfall."),
    "events": ("look", "The journal: what happened, or what happens."),
    "analyze": ("analyze", "What a run's time went to: blame, critical chain, plot, what-if."),
    "logs": ("look", "What the services wrote."),
    "exec": ("enter", "Run a command in a service's network namespace."),
    "shell": ("enter", "A shell in a service's network namespace."),
    "secrets": ("secrets", "List secrets, or rotate them without losing a request."),
    "validate": ("check", "Check a stack file."),
    "schema": ("check", "Print the stack file's JSON Schema, for editors."),
    "prepare": ("prepare", "Make what every new lab needs, once for this machine."),
    "doctor": ("check", "Check this host: kernel, tools, ports, overlaps, each with its mend."),
    "audit": ("audit", "Check live processes and servers for rights that they must not have."),
    "verify": ("verify", "Prove the platform: namespaces, bridge, pings, NAT, ports, flows."),
    "why": ("why", "Why a node does not answer: the first broken layer, with the evidence."),
    "graph": ("draw", "The dependency graph."),
    "topology": ("draw", "The network as the kernel has it now."),
    "rules": ("draw", "Our iptables rules with counters and explanations."),
    "policy": ("draw", "Who may connect to whom, with the rule and its counter behind each."),
    "completion": ("check", "Print the shell's completion script."),
}
