"""Several hosts: what differs between two, what all of them can supply, and where a request fits."""
