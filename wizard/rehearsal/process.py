"""A QEMU that is started for a while: its monitor, its end, and what it can do by its own word."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
from qemu.qmp import ConnectError, QMPClient, QMPError

from wizard.base.text import plural
from wizard.rehearsal.report import Ended, Refused

START_SECONDS = 60
ANSWER_SECONDS = 60
"""What all questions together may take, without firmware."""


@asynccontextmanager
async def running(qemu: str, words: Sequence[str], scratch: str, *, limit: float = ANSWER_SECONDS) -> AsyncIterator[QMPClient]:
    """A paused QEMU and a client on its monitor. ``Refused`` with QEMU's own words when it ends before it answers; ``Ended`` when it
    dies later, or is not done with all questions after ``limit`` seconds. It never outlives the block.
    """
    socket = os.path.join(scratch, "qmp")
    Path(socket).unlink(missing_ok=True)
    try:
        process = await asyncio.create_subprocess_exec(
            qemu, *words, "-S", "-qmp", f"unix:{socket.replace(',', ',,')},server=on,wait=off",
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
    except OSError as error:  # a file of another kind, or one that nobody may run
        raise Refused(error.strerror or str(error)) from error
    ended = asyncio.ensure_future(process.communicate())
    client = QMPClient("rehearsal")
    try:
        try:
            async with asyncio.timeout(START_SECONDS):
                await _connect(client, socket, ended)
        except TimeoutError as error:
            raise Refused(f"no answer in {START_SECONDS} seconds") from error
        if ended.done():
            raise Refused(_written(ended) or _status(process))
        try:
            async with asyncio.timeout(limit):
                yield client
        except TimeoutError as error:
            raise Ended(f"it was not done after {plural(round(limit), 'second')}") from error
        except (QMPError, OSError) as error:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(ended), 2)
            if ended.done():
                raise Ended(_status(process), _written(ended)) from error
            raise Ended(str(error) or type(error).__name__) from error
    finally:
        if process.returncode is None:
            process.kill()
        try:
            if client.runstate.name != "IDLE":
                with suppress(QMPError, OSError, EOFError):
                    await client.disconnect()
        finally:
            await _collected(ended)


async def _collected(ended: asyncio.Future[tuple[bytes, bytes]]) -> None:
    """Until the process is collected, also when the caller is stopped meanwhile: its loop is closed behind this.

    ``await ended`` would hand the cancellation on to what reads the process's end.
    """
    try:
        await asyncio.wait({ended})
    except asyncio.CancelledError:
        await asyncio.wait({ended})
        raise


def _written(ended: asyncio.Future[tuple[bytes, bytes]]) -> str:
    return ended.result()[1].decode(errors="replace").strip()


def _status(process: asyncio.subprocess.Process) -> str:
    if process.returncode is not None and process.returncode < 0:
        return f"it was ended by signal {-process.returncode}"
    return f"it ended with status {process.returncode}"


async def _connect(client: QMPClient, socket: str, ended: asyncio.Future[tuple[bytes, bytes]]) -> None:
    """Until it is connected or QEMU has ended. The socket's name is there before QEMU listens on it, and QEMU listens before it
    makes its devices: it drops the connection when one of them is refused.
    """
    while not ended.done():
        if os.path.exists(socket):
            with suppress(ConnectError):
                await client.connect(socket)
                return
        await asyncio.sleep(0.01)


class Abilities(msgspec.Struct, frozen=True):
    """What a QEMU has for a rehearsal."""

    version: str
    pluggable: bool  # -device arm-smmuv3, QEMU 10.2
    testdev: bool  # iommu-testdev, QEMU 11.0
    edu: bool
    qtest: bool  # -accel qtest; a module of its own in Debian's packages
    machines: frozenset[str]  # machine types: virt-11.1, …


async def abilities(qemu: str, scratch: str) -> Abilities:
    """Ask a QEMU, by property and type and not by version; ``Refused`` and ``Ended`` as ``running``."""
    async with running(qemu, ["-machine", "none", "-nodefaults", "-display", "none"], scratch, limit=START_SECONDS) as client:

        async def types(name: str) -> list[str]:
            answer = msgspec.convert(await client.execute("qom-list-types", {"implements": name}), list[dict[str, object]])
            return [str(entry["name"]) for entry in answer]

        async def has(name: str) -> bool:
            return bool(await types(name))

        about = msgspec.convert(await client.execute("query-version"), dict[str, object])
        numbers = msgspec.convert(about["qemu"], dict[str, int])
        listed = await client.execute("device-list-properties", {"typename": "arm-smmuv3"}) if await has("arm-smmuv3") else []
        properties = {entry["name"] for entry in msgspec.convert(listed, list[dict[str, object]])}
        return Abilities(
            version=".".join(str(numbers[part]) for part in ("major", "minor", "micro")),
            pluggable="smmu_per_bus" in properties,
            testdev=await has("iommu-testdev"),
            edu=await has("edu"),
            qtest=await has("qtest-accel"),
            machines=frozenset(name.removesuffix("-machine") for name in await types("machine")),
        )
