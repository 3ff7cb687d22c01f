"""Routes of every table, of a network namespace made with iproute2: what was put in comes out, and what the kernel adds by itself does not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MADE = """
ip link add d0 type veth peer name d1; ip link add d2 type veth peer name d3
for name in lo d0 d1 d2 d3; do ip link set $name up; done
ip addr add 10.1.0.2/24 dev d0
ip route add 10.9.0.0/16 dev d1
ip route add default via 10.1.0.1 dev d0 table 77
ip rule add to 192.0.2.0/24 table 77
ip -6 route add 2001:db8::/32 dev d2 table 300
ip route add 10.8.0.0/16 nexthop dev d1 nexthop dev d2
ip route add blackhole 10.7.0.0/16
exec "$0" -c 'import json; from wizard.facts import routes as r
to = ("192.0.2.9", "10.9.1.1", "198.51.100.1", "10.7.0.1", "2001:db8::1", "fe80::1%d0", "x")
print(json.dumps([sorted(r.uses()), [r.way_to(one) for one in to]]))'
"""


@pytest.fixture(scope="module")
def told() -> tuple[list[list[str]], list[str | None]]:
    if (
        not shutil.which("unshare")
        or not shutil.which("ip")
        or subprocess.run(["unshare", "-rn", "true"], capture_output=True, timeout=60).returncode
    ):
        pytest.skip("no network namespace can be made here (unshare -rn, ip)")
    done = subprocess.run(["unshare", "-rn", "bash", "-ec", MADE, sys.executable], capture_output=True, text=True, timeout=60, cwd=ROOT)
    if "Unknown device type" in done.stderr:
        pytest.skip("this kernel has no veth")
    assert done.returncode == 0, done.stderr
    uses, ways = json.loads(done.stdout)
    return uses, ways


def test_every_table_is_read_and_only_what_somebody_put_there(told: tuple[list[list[str]], list[str | None]]) -> None:
    assert told[0] == [
        ["d0", "route", "default route in routing table 77 on d0"],
        ["d1", "route", "route on d1"],
        ["d2", "route", "IPv6 route in routing table 300 on d2"],
        ["d2", "route", "route on d2"],
    ]


def test_the_way_to_an_address_is_the_kernels(told: tuple[list[list[str]], list[str | None]]) -> None:
    """By a rule, by main, nowhere, into a black hole, in a table that no rule leads to, on a link that is not named, and no address."""
    by_rule, by_main, nowhere, hole, no_rule, _link, none = told[1]
    assert (by_rule, by_main, nowhere, hole, no_rule, none) == ("d0", "d1", None, None, None, None)
