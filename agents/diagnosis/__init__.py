"""Agents on the planted suite: cells, the table of scores, and the picture of a fingerprint."""
