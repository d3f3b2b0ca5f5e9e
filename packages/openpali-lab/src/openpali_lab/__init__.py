"""Worlds that are drawn, the paper's benchmarks, studies, the planner, fairness, the playground, and Ray."""

__version__ = "0.1.0"
