"""issues: what was asked, and its merits."""
