"""The LLM seam: one client protocol; live, replayed and simulated models behind it."""
