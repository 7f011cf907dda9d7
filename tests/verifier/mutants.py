"""Mutant ports for rows of the catalogue that the oracles of the ops do not have: {op or formats/name: {id: function}}.

A function takes the inputs of a vector and returns its outputs, in plain NumPy; nothing of refmoe is used.
"""

MORE: dict[str, dict] = {}
