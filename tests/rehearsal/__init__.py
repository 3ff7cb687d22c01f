"""Plans in a real QEMU."""
