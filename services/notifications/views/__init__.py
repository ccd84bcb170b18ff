"""Read models of notifications, one a file."""
