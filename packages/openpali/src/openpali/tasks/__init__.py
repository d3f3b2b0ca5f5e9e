"""Task families: example -> prompt and target; text -> typed answer; answers -> scores. Pure functions."""

from openpali.tasks.base import Answer, Sample, Task
from openpali.tasks.registry import TASKS, get_task, open_task, recognise

__all__ = ["TASKS", "Answer", "Sample", "Task", "get_task", "open_task", "recognise"]
