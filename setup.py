"""Finds the packages; all else is in setup.cfg, whose ``find:`` cannot rename ``agents``."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["rpp_env*"]),
        "rpp_agents",
        *(f"rpp_agents.{package}" for package in find_packages("agents")),
    ]
)
