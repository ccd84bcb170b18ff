"""The four services, each in a folder of its own; none imports another."""
