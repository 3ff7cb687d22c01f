"""What was read from a host, unjudged, and the places it can be read from: live, a tree, a snapshot."""
