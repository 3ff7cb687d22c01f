"""The calls of iommufd and of the VFIO character device that a probe makes (include/uapi/linux/iommufd.h and vfio.h).

    device (cdev) --BIND_IOMMUFD--> device id --HWPT_ALLOC(NEST_PARENT)--> stage-2 table --VIOMMU_ALLOC--> vIOMMU

Each function makes one call and raises OSError with the kernel's errno. Nothing outlives its ``IommuFd``.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

_TYPE = 0x3B00  # _IO(';', nr): no size in the number, the structures carry their own
_VFIO_DEVICE_GET_INFO = _TYPE + 107
_VFIO_DEVICE_GET_REGION_INFO = _TYPE + 108
_VFIO_DEVICE_BIND_IOMMUFD = _TYPE + 118
_VFIO_DEVICE_ATTACH_IOMMUFD_PT = _TYPE + 119
_VFIO_DEVICE_DETACH_IOMMUFD_PT = _TYPE + 120
_IOMMU_DESTROY = _TYPE + 0x80
_IOMMU_IOAS_ALLOC = _TYPE + 0x81
_IOMMU_IOAS_IOVA_RANGES = _TYPE + 0x84
_IOMMU_HWPT_ALLOC = _TYPE + 0x89
_IOMMU_GET_HW_INFO = _TYPE + 0x8A
_IOMMU_VIOMMU_ALLOC = _TYPE + 0x90

_DEVICE_INFO = struct.Struct("<6I")  # argsz, flags, num_regions, num_irqs, cap_offset, pad
_REGION_INFO = struct.Struct("<4I2Q")  # argsz, flags, index, cap_offset, size, offset
_BIND = struct.Struct("<2IiI")  # argsz, flags, iommufd, out_devid
_ATTACH = struct.Struct("<3I")  # argsz, flags, pt_id
_DETACH = struct.Struct("<2I")  # argsz, flags
_DESTROY = struct.Struct("<2I")  # size, id
_IOAS_ALLOC = struct.Struct("<3I")  # size, flags, out_ioas_id
_IOVA_RANGES = struct.Struct("<4I2Q")  # size, ioas_id, num_iovas, reserved, allowed_iovas, out_iova_alignment
_HWPT_ALLOC = struct.Struct("<8IQ2I")  # size, flags, dev_id, pt_id, out_hwpt_id, reserved, data_type, data_len, data_uptr, fault_id, reserved
_HW_INFO = struct.Struct("<4IQIB3xQ")  # size, flags, dev_id, data_len, data_uptr, in/out_data_type, out_max_pasid_log2, out_capabilities
_VIOMMU_ALLOC = struct.Struct("<8IQ")  # size, flags, type, dev_id, hwpt_id, out_viommu_id, data_len, reserved, data_uptr

_NEST_PARENT = 1  # IOMMU_HWPT_ALLOC_NEST_PARENT
_INPUT_TYPE = 1  # IOMMU_HW_INFO_FLAG_INPUT_TYPE
DEFAULT, ARM_SMMUV3, TEGRA241_CMDQV = 0, 2, 3  # enum iommu_hw_info_type
VIOMMU_ARM_SMMUV3, VIOMMU_TEGRA241_CMDQV = 1, 2  # enum iommu_viommu_type
_HW_DATA_LIMIT = 256  # bytes; the largest type known has 40
_CMDQV_DATA = 16  # struct iommu_viommu_tegra241_cmdqv: where the guest's page lies, and its length
_REGIONS = 64  # a device has 9 and a few of its own
_RANGES = 4096  # of an IOAS: one more than there are holes, and a function has a handful of those


class IovaRanges(NamedTuple):
    """What an IOAS can map: (first, last) addresses, both inclusive, and the least alignment in bytes."""

    ranges: tuple[tuple[int, int], ...]
    alignment: int

    @property
    def lines(self) -> str:
        """One range a line, in the form of /sys/kernel/iommu_groups/N/reserved_regions."""
        return "\n".join(f"{first:#018x} {last:#018x}" for first, last in self.ranges)


class HwData(NamedTuple):
    """The answer of IOMMU_GET_HW_INFO: ``data`` is the type's struct as the kernel filled it."""

    type: int
    data: bytes
    capabilities: int
    max_pasid_log2: int


def errno_name(error: OSError) -> str:
    """The kernel's name of an error; Python prefers another of the two names of EOPNOTSUPP."""
    name = errno.errorcode.get(error.errno or 0, str(error.errno))
    return "EOPNOTSUPP" if name == "ENOTSUP" else name


class IommuFd:
    """One open /dev/iommu: a context of its own, which ends with everything in it when it is closed."""

    def __init__(self) -> None:
        self.descriptor = os.open("/dev/iommu", os.O_RDWR | os.O_CLOEXEC)

    def close(self) -> None:
        """End the context."""
        os.close(self.descriptor)

    def __enter__(self) -> IommuFd:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def hw_info(self, device: int, data_type: int = DEFAULT) -> HwData:
        """What the hardware above a bound device has; EOPNOTSUPP for a type that it has not or the kernel does not know."""
        data = array.array("B", bytes(_HW_DATA_LIMIT))
        flags = 0 if data_type == DEFAULT else _INPUT_TYPE
        answer = self._call(_IOMMU_GET_HW_INFO, _HW_INFO, _HW_INFO.size, flags, device, len(data), data.buffer_info()[0], data_type, 0, 0)
        return HwData(type=answer[5], data=data.tobytes()[: answer[3]], capabilities=answer[7], max_pasid_log2=answer[6])

    @contextmanager
    def address_space(self) -> Iterator[int]:
        """An IOAS, by its id."""
        ioas = self._call(_IOMMU_IOAS_ALLOC, _IOAS_ALLOC, _IOAS_ALLOC.size, 0, 0)[2]
        yield from self._while_it_lives(ioas)

    def iova_ranges(self, ioas: int) -> IovaRanges:
        """What an IOAS can map as it is now: each table and each device that is attached to it narrows that."""
        found = array.array("Q", bytes(16 * _RANGES))
        answer = self._call(_IOMMU_IOAS_IOVA_RANGES, _IOVA_RANGES, _IOVA_RANGES.size, ioas, _RANGES, 0, found.buffer_info()[0], 0)
        pairs = found[: 2 * answer[2]]
        return IovaRanges(tuple(zip(pairs[::2], pairs[1::2], strict=True)), answer[5])

    @contextmanager
    def nest_parent(self, device: int, ioas: int) -> Iterator[int]:
        """A stage-2 table that can be under a guest's stage 1, by its id; EOPNOTSUPP where the SMMU can't nest."""
        hwpt = self._call(_IOMMU_HWPT_ALLOC, _HWPT_ALLOC, _HWPT_ALLOC.size, _NEST_PARENT, device, ioas, 0, 0, 0, 0, 0, 0, 0)[4]
        yield from self._while_it_lives(hwpt)

    @contextmanager
    def viommu(self, device: int, hwpt: int, viommu_type: int) -> Iterator[int]:
        """A vIOMMU on a nesting parent, by its id; EOPNOTSUPP where the kernel refuses (arm_smmu_get_viommu_size)."""
        data = array.array("B", bytes(_CMDQV_DATA if viommu_type == VIOMMU_TEGRA241_CMDQV else 0))
        pointer = data.buffer_info()[0] if data else 0
        request = (_VIOMMU_ALLOC.size, 0, viommu_type, device, hwpt, 0, len(data), 0, pointer)
        viommu = self._call(_IOMMU_VIOMMU_ALLOC, _VIOMMU_ALLOC, *request)[5]
        yield from self._while_it_lives(viommu)

    def _while_it_lives(self, number: int) -> Iterator[int]:
        try:
            yield number
        finally:
            self._call(_IOMMU_DESTROY, _DESTROY, _DESTROY.size, number)

    def _call(self, number: int, layout: struct.Struct, *request: int) -> tuple[int, ...]:
        return _ioctl(self.descriptor, number, layout, *request)


class VfioDevice:
    """One open VFIO character device. Opening the first and closing the last resets the function."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self) -> None:
        """Give it back."""
        os.close(self.descriptor)

    def __enter__(self) -> VfioDevice:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def bind(self, iommufd: IommuFd) -> int:
        """Its device id in a context. EPERM: no isolated MSI; EINVAL, EPERM or EBUSY: its group is used otherwise."""
        return _ioctl(self.descriptor, _VFIO_DEVICE_BIND_IOMMUFD, _BIND, _BIND.size, 0, iommufd.descriptor, 0)[3]

    @contextmanager
    def attached(self, ioas: int) -> Iterator[None]:
        """While it is open the device's DMA goes through that IOAS. EBUSY or EINVAL: its group is in another."""
        _ioctl(self.descriptor, _VFIO_DEVICE_ATTACH_IOMMUFD_PT, _ATTACH, _ATTACH.size, 0, ioas)
        try:
            yield
        finally:
            _ioctl(self.descriptor, _VFIO_DEVICE_DETACH_IOMMUFD_PT, _DETACH, _DETACH.size, 0)

    def regions(self) -> dict[str, int]:
        """Index -> size in bytes of the regions that it has; 0 to 5 are BARs, 6 the expansion ROM, 7 configuration space."""
        count = _ioctl(self.descriptor, _VFIO_DEVICE_GET_INFO, _DEVICE_INFO, _DEVICE_INFO.size, 0, 0, 0, 0, 0)[2]
        sizes = {}
        for index in range(min(count, _REGIONS)):
            try:
                size = _ioctl(self.descriptor, _VFIO_DEVICE_GET_REGION_INFO, _REGION_INFO, _REGION_INFO.size, 0, index, 0, 0, 0)[4]
            except OSError as error:
                if error.errno != errno.EINVAL:  # an index without a region, such as VGA's
                    raise
            else:
                if size:
                    sizes[str(index)] = size
        return sizes


def _ioctl(descriptor: int, number: int, layout: struct.Struct, *request: int) -> tuple[int, ...]:
    buffer = bytearray(layout.pack(*request))
    fcntl.ioctl(descriptor, number, buffer, True)
    answer: tuple[int, ...] = layout.unpack(buffer)
    return answer
