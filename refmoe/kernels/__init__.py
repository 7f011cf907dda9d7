"""Fast schedules shared by the ops: they decide speed and never a bit. They exist under the JIT only."""
