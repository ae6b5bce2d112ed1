"""The frozen protocol of comparisons: tasks, submissions, and how several are compared."""
