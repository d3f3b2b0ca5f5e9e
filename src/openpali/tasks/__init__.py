"""Task families: example -> prompt and target; text -> typed answer; which metric. Pure functions."""

from openpali.tasks.base import Answer, Sample, Task
from openpali.tasks.registry import TASKS, get_task

__all__ = ["TASKS", "Answer", "Sample", "Task", "get_task"]
