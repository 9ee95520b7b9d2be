"""Seeded worlds over the real rules, their judge, and the mutants that it must notice."""
