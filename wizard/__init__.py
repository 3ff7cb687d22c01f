"""smmu-wizard: PCI devices behind accelerated SMMUv3s, for virtual machines on arm64 hosts."""

__version__ = "0.1.0"
