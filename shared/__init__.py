"""What every service shares: the decider, the contracts and the runtime that hosts them."""
