"""What the kernel's log says: its lines decoded, what they lead to, and the findings of a host."""
