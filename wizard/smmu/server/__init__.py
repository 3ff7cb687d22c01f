"""The simulated SMMU as a process that other programs talk to: docs/smmu-protocol.md.

protocol.py    one line in, one line out: what each command does with the machine
words.py       the words of a line: numbers, data, options
serve.py       sockets, clients, signals
"""
