"""Agents by seeds on a recording: cells, leaderboard, reports and plots."""
