"""What is asked for, and the whole answer: request, guest topology, resolved properties, rules -> Plan."""
