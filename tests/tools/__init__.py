"""What tests need to reach the real things: QEMU, iasl, libvirt, the emulated arm64 host."""
