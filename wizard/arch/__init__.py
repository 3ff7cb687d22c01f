"""What Arm and PCI define, declared once: bit fields of registers, table entries, commands and events."""
