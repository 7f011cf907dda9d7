"""Recorders for runs of other programs, in files that `refmoe compare` reads; they need those programs installed."""
