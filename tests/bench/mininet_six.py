"""The network of six in Mininet, for the Python that has it: build and stop, in milliseconds.

Run on a host of its own. A Linux bridge as the switch and NAT on the host, as ours has it.
"""

import json
import sys
import time

from mininet.net import Mininet
from mininet.nodelib import NAT, LinuxBridge


def main() -> None:
    begun = time.perf_counter()
    net = Mininet(switch=LinuxBridge, controller=None, ipBase="10.0.0.0/16", waitConnected=False)
    switch = net.addSwitch("s1")
    for number in range(1, 7):
        host = net.addHost(f"h{number}", ip=f"10.0.0.{number}0/16", defaultRoute="via 10.0.0.1")
        net.addLink(host, switch)
    nat = net.addHost("nat0", cls=NAT, ip="10.0.0.1/16", subnet="10.0.0.0/16", inNamespace=False)
    net.addLink(nat, switch)
    net.start()
    build = time.perf_counter()
    net.stop()
    removed = time.perf_counter()
    sys.stdout.write(
        json.dumps({"build": (build - begun) * 1e3, "remove": (removed - build) * 1e3})
    )


if __name__ == "__main__":
    main()
