"""Rows of numbers into classes: a plugin for Plait."""
