"""Where every case is, whose turn it is, until when, and why."""
