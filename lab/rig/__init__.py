"""Whole members as real processes on one machine, and what their commands write down."""
