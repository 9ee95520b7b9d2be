"""The member: the loop in which rules, store, guard and clock meet, and what it tells and hears."""
