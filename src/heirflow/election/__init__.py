"""The rules of an election, pure: no clock, store, thread, log or random number in this room."""
