"""``explain`` over a long log against ``grep -c -F -f`` with the same fixed parts, and a message alone against ``--version``: whole processes.

    python -m benchmarks.explain [--megabytes 100] [--runs 3]

Goals: 100 MB in 10 s and 150 MiB, at most 15 times grep's time; a message alone as fast as ``--version`` plus 50 ms. The log is of a busy host: lines
that hold nothing, lines of the same kernel and daemons that hold words of messages and are none, and a message now and then; a second one is
nothing but messages, each different from the others.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.list import ROOT, compare, show
from wizard.explain.matcher import Matcher

IDLE = (
    "systemd[1]: Started session {} of user root.",
    "sshd[{}]: Accepted publickey for root from 10.0.0.7 port {} ssh2",
    "CRON[{}]: (root) CMD (run-parts)",
    "kernel: audit: type=1300 audit({}.1:7): arch=c00000b7 syscall=56 success=yes exit=3",
    "dockerd[{}]: time=now level=info msg=ignoring event",
    "kubelet[{}]: I1129 reconciler.go:224 operationExecutor.VerifyControllerAttachedVolume started",
    "chronyd[{}]: Selected source 10.0.0.1",
    "kernel: nvme nvme0: {}/0/0 default/read/poll queues",
    "postfix/smtp[{}]: connect to mx.example.org: Connection timed out",
)
NEAR = (
    "kernel: pci 0000:{:02x}:00.0: Adding to iommu group {}",
    "kernel: vfio-pci 0000:{:02x}:00.0: enabling device (0000 -> 0002)",
    "kernel: arm-smmu-v3 arm-smmu-v3.{}.auto: allocated 65536 entries for cmdq",
    "libvirtd[{}]: Failed to open file '/sys/x': No such file or directory",
    "kernel: pcieport 0000:{:02x}:00.0: pciehp: Slot(1): Link Up",
    "systemd[1]: Failed to start foo-{}.service.",
)
SAID = (
    "libvirtd[812]: vfio 0000:{0:02x}:00.0: [iommufd={1}] error attach 0000:{0:02x}:00.0 (26) pasid 0 to id={1}: Invalid argument",
    "kernel: vfio-pci 0000:{0:02x}:00.0: not ready 65535ms after FLR; giving up",
    "kernel: arm-smmu-v3 arm-smmu-v3.0.auto: CMD_SYNC timeout at 0x{1:08x} [hwprod 0x{1:08x}, hwcons 0x{1:08x}]",
    "qemu-system-aarch64: -device arm-smmuv3,primary-bus=p{1}: Device 'p{1}' not found",
)


def log(path: Path, size: int, *, only_messages: bool) -> None:
    """A log of that many bytes, the same one each time."""
    chosen = random.Random(4711)
    written = seconds = 0
    with path.open("w", encoding="utf-8") as out:
        while written < size:
            seconds += chosen.randrange(3)
            dice = 1.0 if only_messages else chosen.random()
            some = SAID if dice > 0.999 else NEAR if dice > 0.9 else IDLE
            said = chosen.choice(some).format(chosen.randrange(256), chosen.randrange(1 << 20))
            stamp = f"Nov {1 + seconds // 86400 % 28:2} {seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
            written += out.write(f"{stamp} host{seconds % 7} {said}\n")


def peak(words: list[str]) -> int:
    """The most memory that a process took, in MiB."""
    code = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)"
    code += "; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    return int(subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True, cwd=ROOT).stdout) >> 10


def main() -> None:
    """Write the logs, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    wizard = [sys.executable, "-m", "wizard"]
    with tempfile.TemporaryDirectory(prefix="smmu-wizard-") as scratch:
        parts = Path(scratch) / "parts"
        parts.write_text("\n".join(Matcher().fixed_parts) + "\n", encoding="utf-8")
        for name, only in (("a busy host", False), ("nothing but messages", True)):
            path = Path(scratch) / "host.log"
            log(path, arguments.megabytes * 1_000_000, only_messages=only)
            ours = [*wizard, "explain", "--json", str(path)]
            best = compare({"explain": ours, "grep -c -F -f": ["grep", "-c", "-F", "-f", str(parts), str(path)]}, arguments.runs)
            show(f"{arguments.megabytes} MB of {name} (goal: 10 s, 150 MiB, 15 times grep)", best)
            ratio = best["explain"][1] / best["grep -c -F -f"][1]
            print(f"  {ratio:.1f} times grep's CPU, {peak(ours)} MiB")
        message = [*wizard, "explain", "[iommufd=24] error attach 0000:81:00.0 (26) to id=9: Invalid argument"]
        best = compare({"a message alone": message, "--version": [*wizard, "--version"]}, arguments.runs * 5)
        show("a message alone (goal: --version plus 50 ms)", best)


if __name__ == "__main__":
    main()
