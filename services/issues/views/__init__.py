"""Read models of issues, one a file."""
