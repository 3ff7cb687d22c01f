"""The options of each command, ``of_NAME`` for each. One of these modules is loaded when a command is chosen, its own."""
