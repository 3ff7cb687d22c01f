"""A plan in a real QEMU, with stand-ins for what this machine does not have."""
