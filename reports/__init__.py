"""Reports from run folders alone: no GPU, no key."""
