"""QEMU's command line: its options by its own grammar, what they say of a VM, and where QEMU puts what they leave out."""
