"""What the world does to a program while it runs: disks fill, files vanish, terminals go away, power ends."""
