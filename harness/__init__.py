"""A reproducible benchmark-and-comparison harness for LLM-driven kernel search.

suite → task → method proposes a candidate → evaluator builds, checks and times it → run log →
report.
"""

__version__ = "0.1.0"
