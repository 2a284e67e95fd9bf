"""Datasets by name, and what they share: the tables of published ones, and where their files lie."""
