"""What is known of platforms, kernels, distributions and others' programs, and from where: data files, each entry with source and date.

It ages, where the rules over it do not. A file is read when something is looked up in it, not when the program starts:
a host without NVIDIA's functions never opens ``devices.toml``.
"""
