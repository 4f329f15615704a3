"""Our own rtnetlink messages against pyroute2's, which knows every field of them."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from orchestrator.kernel import rtnetlink
from orchestrator.kernel.messages import HEADER
from orchestrator.kernel.rtnetlink import Link, Request, Route

MAC, PEER_MAC, GROUP = "02:00:0a:00:00:01", "02:00:0a:00:00:02", 4711
ADDRESS = IPv4Interface("10.0.0.10/16")


def understood(request: Request, parser: Any) -> Any:
    """The request as pyroute2 reads it."""
    length = HEADER.size + len(request.body)
    found = parser(HEADER.pack(length, request.kind, request.flags, 1, 0) + request.body)
    found.decode()
    return found


def said(message: Any) -> bytes:
    """The body that pyroute2 makes of it, as a kernel would send it."""
    message.encode()
    return bytes(message.data)[HEADER.size :]


def test_bridge_forwards_at_once() -> None:
    found = understood(rtnetlink.new_bridge("br-app", mac=MAC, group=GROUP), ifinfmsg)
    assert found.get_attr("IFLA_IFNAME") == "br-app"
    assert found.get_attr("IFLA_ADDRESS") == MAC
    assert found.get_attr("IFLA_GROUP") == GROUP
    info = found.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == "bridge"
    options = info.get_attr("IFLA_INFO_DATA")
    assert options.get_attr("IFLA_BR_FORWARD_DELAY") == 0
    assert options.get_attr("IFLA_BR_STP_STATE") == 0


def test_veth_is_a_port_with_its_peer_elsewhere() -> None:
    request = rtnetlink.new_veth(
        "veth-pg-br",
        mac=MAC,
        master=3,
        group=GROUP,
        peer="veth-pg",
        peer_mac=PEER_MAC,
        peer_namespace=9,
        mtu=9000,
    )
    found = understood(request, ifinfmsg)
    assert found.get_attr("IFLA_IFNAME") == "veth-pg-br"
    assert found.get_attr("IFLA_MASTER") == 3
    info = found.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == "veth"
    peer = info.get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    assert peer.get_attr("IFLA_IFNAME") == "veth-pg"
    assert peer.get_attr("IFLA_ADDRESS") == PEER_MAC
    assert peer.get_attr("IFLA_GROUP") == GROUP
    assert peer.get_attr("IFLA_NET_NS_FD") == 9
    for end in (found, peer):
        assert end.get_attr("IFLA_MTU") == 9000
        assert end.get_attr("IFLA_NUM_TX_QUEUES") == end.get_attr("IFLA_NUM_RX_QUEUES") == 1


def test_changes_of_a_link_name_only_what_changes() -> None:
    found = understood(rtnetlink.set_link(7, up=True, alias="orchestrator:shop"), ifinfmsg)
    assert (found["index"], found["flags"], found["change"]) == (7, 1, 1)
    assert [name for name, _ in found["attrs"]] == ["IFLA_IFALIAS"]
    assert found.get_attr("IFLA_IFALIAS") == "orchestrator:shop"
    found = understood(rtnetlink.set_link(7, master=3, group=GROUP), ifinfmsg)
    assert (found["flags"], found["change"]) == (0, 0)
    assert dict(found["attrs"]) == {"IFLA_GROUP": GROUP, "IFLA_MASTER": 3}
    found = understood(rtnetlink.set_link(7, mac=MAC), ifinfmsg)
    assert dict(found["attrs"]) == {"IFLA_ADDRESS": MAC}


def test_group_is_removed_by_its_number_alone() -> None:
    found = understood(rtnetlink.remove_group(GROUP), ifinfmsg)
    assert (found["index"], dict(found["attrs"])) == (0, {"IFLA_GROUP": GROUP})


def test_group_is_read_alone() -> None:
    message = ifinfmsg()
    message["attrs"] = [("IFLA_IFNAME", "eth0"), ("IFLA_GROUP", GROUP), ("IFLA_MTU", 1500)]
    assert rtnetlink.group_of(said(message)) == GROUP
    without = ifinfmsg()
    without["attrs"] = [("IFLA_IFNAME", "eth0")]
    assert rtnetlink.group_of(said(without)) == 0


def test_hairpin_is_a_setting_of_the_port() -> None:
    info = understood(rtnetlink.set_hairpin(7), ifinfmsg).get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_SLAVE_KIND") == "bridge"
    assert info.get_attr("IFLA_INFO_SLAVE_DATA").get_attr("IFLA_BRPORT_MODE") == 1


def test_address_and_route() -> None:
    found = understood(rtnetlink.add_address(2, ADDRESS), ifaddrmsg)
    assert (found["family"], found["prefixlen"], found["index"]) == (socket.AF_INET, 16, 2)
    assert found.get_attr("IFA_LOCAL") == found.get_attr("IFA_ADDRESS") == "10.0.0.10"
    assert found.get_attr("IFA_BROADCAST") == "10.0.255.255"
    found = understood(rtnetlink.set_default_route(2, IPv4Address("10.0.0.1"), mtu=1500), rtmsg)
    assert (found["dst_len"], found["table"], found["type"]) == (0, 254, 1)
    assert found.get_attr("RTA_GATEWAY") == "10.0.0.1"
    assert found.get_attr("RTA_OIF") == 2
    assert found.get_attr("RTA_METRICS").get_attr("RTAX_MTU") == 1500


def test_link_that_is_a_port_is_read() -> None:
    message = ifinfmsg()
    message["index"], message["flags"] = 5, 0x1 | 0x40
    port = {"attrs": [("IFLA_BRPORT_STATE", 3), ("IFLA_BRPORT_MODE", 1)]}
    info = [
        ("IFLA_INFO_KIND", "veth"),
        ("IFLA_INFO_SLAVE_KIND", "bridge"),
        ("IFLA_INFO_SLAVE_DATA", port),
    ]
    message["attrs"] = [
        ("IFLA_IFNAME", "veth-pg-br"),
        ("IFLA_ADDRESS", MAC),
        ("IFLA_GROUP", GROUP),
        ("IFLA_IFALIAS", "ours"),
        ("IFLA_MASTER", 3),
        ("IFLA_LINK", 2),
        ("IFLA_LINKINFO", {"attrs": info}),
    ]
    assert rtnetlink.decode_link(said(message)) == Link(
        index=5,
        name="veth-pg-br",
        kind="veth",
        mac=MAC,
        group=GROUP,
        alias="ours",
        up=True,
        running=True,
        master=3,
        port_state=3,
        hairpin=True,
        peer_index=2,
    )


def test_link_with_nothing_but_a_name_is_read() -> None:
    message = ifinfmsg()
    message["index"], message["attrs"] = 1, [("IFLA_IFNAME", "lo")]
    found = rtnetlink.decode_link(said(message))
    assert (found.name, found.kind, found.master, found.port_state) == ("lo", "", 0, -1)
    assert not any((found.up, found.running, found.hairpin, found.alias))


def test_address_is_read() -> None:
    request = rtnetlink.add_address(2, ADDRESS)
    assert rtnetlink.decode_address(request.body) == (2, ADDRESS)


def test_routes_of_the_main_table_are_read() -> None:
    def route(table: int) -> Route | None:
        message = rtmsg()
        message["family"], message["table"], message["type"] = socket.AF_INET, table, 1
        message["dst_len"] = 16
        message["attrs"] = [("RTA_DST", "10.0.0.0"), ("RTA_OIF", 2)]
        return rtnetlink.decode_route(said(message))

    assert route(254) == Route(IPv4Network("10.0.0.0/16"), None, 2)
    assert route(255) is None
    default = rtnetlink.set_default_route(2, IPv4Address("10.0.0.1"), mtu=1500)
    assert rtnetlink.decode_route(default.body) == Route(
        IPv4Network("0.0.0.0/0"), IPv4Address("10.0.0.1"), 2
    )
